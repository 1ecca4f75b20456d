"""The page of a run: what was asked for, the result, how certain it is, and how to repeat it."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from amc.costs.metrics import LATENCY, METRICS, noun_of
from amc.report.figures import Figure
from amc.report.figures.of_latency import predicted_against_measured
from amc.report.figures.of_layers import class_changes, sensitivity, what_is_kept
from amc.report.figures.of_learning import actor_ratios, losses
from amc.report.figures.of_search import candidates, ratios_played, search_history
from amc.report.figures.of_training import fine_tuning, rounds
from amc.report.page import Page, Section, Table
from amc.report.run_record import Baseline, RunRecord
from amc.report.tables import amount, percent, points_lost
from amc.storage.summary import KEEP_RATIOS, Classes, Summary
from amc.utils.counted import counted
from amc.utils.plain_json import as_type
from amc.utils.printable import series

_Share = Annotated[float, msgspec.Meta(ge=0, le=1e6)]


def page_of_run(run: RunRecord) -> Page:
    """Builds the report of a finished run; what its folder lacks is left out."""
    summary = run.summary
    sections = [
        Section("What was asked", paragraphs=_asked(run)),
        Section("What came out", tables=[networks(run)], paragraphs=_speed(summary)),
        Section("How sure it is", paragraphs=_certainty(run)),
        Section("The search", paragraphs=_time_split(run), figures=_of_search(run)),
        Section("Layer by layer", figures=_of_layers(run)),
        Section("The networks", figures=_of_networks(run)),
        _repetition(run),
    ]
    filled = [part for part in sections if part.figures or part.paragraphs or part.tables or part.commands]
    return Page(f"{summary.model}: {_budget_words(summary)}", _lead(summary), filled)


def networks(run: RunRecord) -> Table:
    """Compares the dense network, the delivered one, and those of the other agents."""
    summary = run.summary
    metrics = list(summary.costs)
    headings = ["network"]
    for metric in metrics:
        headings += [_noun(metric), "of dense", "times smaller"]
    accuracy = summary.accuracy
    dense_costs = {name: cost.dense for name, cost in summary.costs.items()}
    rows = [("dense", *_costs(dense_costs, dense_costs), percent(accuracy.get("dense")), "", "")]
    own = Baseline(
        {name: cost.pruned for name, cost in summary.costs.items() if cost.pruned is not None},
        accuracy.get("pruned"),
        accuracy.get("finetuned"),
    )
    for name, network in {summary.agent or "pruned": own, **run.baselines}.items():
        figures = (percent(network.pruned), percent(network.finetuned))
        lost = points_lost(
            network.finetuned if network.finetuned is not None else network.pruned, accuracy.get("dense")
        )
        rows.append((name, *_costs(network.costs, dense_costs), *figures, lost))
    return Table(
        columns=(*headings, "pruned", "fine-tuned", "lost"),
        rows=tuple(rows),
        caption=f"Pruned and fine-tuned: {summary.metric or 'top-1 on the test images, in percent'}. Lost: points less "
        "than the dense network. Times smaller: dense over pruned, of FLOPs the theoretical speed-up.",
        name="networks",
    )


def _lead(summary: Summary) -> str:
    """Returns the result in a sentence or two."""
    dense, own = summary.accuracy.get("dense"), summary.accuracy.get("finetuned")
    shares = [
        f"{100 * cost.pruned / cost.dense:.1f}% of the {_noun(name)}"
        for name, cost in summary.costs.items()
        if cost.dense and cost.pruned is not None
    ]
    words = f"The smaller network has {series(shares)} of the dense one" if shares else "The network was pruned"
    if dense is not None and own is not None:
        words += f" and reaches {own:.2f} where the dense network has {dense:.2f}"
    latency = summary.latency_ms
    ratio = latency.get("ratio") if latency else None
    return words + (f"; it takes {ratio:.2f} of the time." if isinstance(ratio, int | float) else ".")


def _asked(run: RunRecord) -> list[str]:
    """Returns the section on what the run was asked to do."""
    summary, rules = run.summary, run.summary.pruning or {}
    what = "single weights" if rules.get("family") == "weight" else "whole filters"
    found = [f"Prune {what} of {summary.model} until the network is within the budget: {_budget_words(summary)}."]
    data = summary.data
    if data is not None:
        called = f" ({data.name})" if data.name else ""
        found.append(
            f"Data{called}: {counted(data.train, 'example')} to train on, of which {data.calibration:,} give "
            f"statistics; {data.search:,} held out to score candidates; {data.test:,} to test."
        )
    if summary.agent:
        count = f", with {counted(len(run.episodes), 'candidate')}" if run.episodes else ""
        found.append(f"The allocation was left to the agent {summary.agent}{count}.")
    if run.baselines:
        found.append(f"For comparison, under the same budget, data and seed: {', '.join(run.baselines)}.")
    if summary.schedule != "one_shot":
        found.append(f"Schedule: {summary.schedule}, {counted(len(summary.rounds), 'round')}.")
    return found


def _speed(summary: Summary) -> list[str]:
    """Returns the section on the measured speed."""
    latency = summary.latency_ms or {}
    dense, pruned, ratio = (latency.get(name) for name in ("dense", "pruned", "ratio"))
    if not all(isinstance(value, int | float) for value in (dense, pruned, ratio)):
        return []
    how = f"{latency.get('engine')} on {latency.get('device')}, batch {latency.get('batch_size')}"
    if "threads" in latency:
        how += f", {counted(latency['threads'], 'thread')}"
    return [
        f"Measured in turn on this machine ({how}): dense {dense:.3g} ms, pruned {pruned:.3g} ms, {ratio:.2f} of the "
        "time (median of paired runs). Fewer FLOPs do not always mean less time: measure on the device that the "
        "network is for."
    ]


def _certainty(run: RunRecord) -> list[str]:
    """Returns the section on how far the figures can be trusted, with the run's remarks."""
    summary = run.summary
    found = []
    images = sum(summary.classes.images) if summary.classes else 0
    best = summary.accuracy.get("dense")
    if images and best is not None:
        share = min(max(best / 100, 0.0), 1.0)
        error = 100 * math.sqrt(share * (1 - share) / images)
        found.append(
            f"The test split has {counted(images, 'image')}: the standard error of the dense network's accuracy is "
            f"{error:.2f}, and differences below {2 * error:.2f} mean little. Nothing was "
            "chosen on the test split: it was read for these figures alone."
        )
    found.append("This is one run with one seed; amc study measures how much seeds differ.")
    named = {summary.agent or "pruned": summary.notes, **{name: each.notes for name, each in run.baselines.items()}}
    return found + [f"{name}: {note}" for name, notes in named.items() for note in notes]


def _of_search(run: RunRecord) -> list[Figure]:
    """Returns the section on the search."""
    if len(run.episodes) < 2:
        return []
    summary = run.summary
    figures: list[Figure | None] = [search_history(run.episodes)]
    for metric, cost in summary.costs.items():
        if cost.dense:
            figures.append(candidates(run.episodes, metric, cost.dense, (summary.budget or {}).get(metric)))
    figures.append(ratios_played(run.episodes, run.sizes))
    learnt = [record.episode for record in run.learning]
    figures.append(actor_ratios(learnt, [record.ratios for record in run.learning]))
    actor, critic = [r.actor_loss for r in run.learning], [r.critic_loss for r in run.learning]
    figures.append(losses(learnt, actor, critic))
    return [figure for figure in figures if figure is not None]


def _time_split(run: RunRecord) -> list[str]:
    """Says what the time of the search went into."""
    known = [(r.seconds, r.scoring_seconds) for r in run.learning if r.seconds and r.scoring_seconds is not None]
    whole, scoring = (sum(float(pair[place] or 0.0) for pair in known) for place in (0, 1))
    if not whole:
        return []
    return [
        f"Of the time of the candidates since the agent began to learn ({whole:,.1f} s), {scoring / whole:.0%} went "
        f"into scoring networks, and {1 - scoring / whole:.0%} into the agent and its environment."
    ]


def _of_layers(run: RunRecord) -> list[Figure]:
    """Returns the section on the layers."""
    summary, sizes = run.summary, run.sizes
    if not sizes or run.policy is None:
        return []
    allocations: dict[str, Mapping[str, int]] = {summary.agent or "policy": run.policy.widths}
    for name, baseline in run.baselines.items():
        widths = baseline.allocation.get("widths")
        if isinstance(widths, dict) and all(isinstance(width, int) for width in widths.values()):
            allocations[name] = widths
    flops = {layer.name: layer.flops for layer in summary.layers}
    errors = {layer.name: layer.errors for layer in summary.layers if len(layer.errors) == len(KEEP_RATIOS)}
    figures = [what_is_kept(sizes, allocations, flops or None), sensitivity(errors, KEEP_RATIOS)]
    return [figure for figure in figures if figure is not None]


def _of_networks(run: RunRecord) -> list[Figure]:
    """Returns the section on the networks' training, and on how the classes changed."""
    summary = run.summary
    curves = {summary.agent or "pruned": summary.curve, **{name: b.curve for name, b in run.baselines.items()}}
    plain = {who: [{"epoch": e.epoch, "loss": e.loss, "accuracy": e.accuracy} for e in c] for who, c in curves.items()}
    records = [
        {"budget": r.budget, "search_pruned": r.search_pruned, "search_trained": r.search_trained} for r in run.rounds
    ]
    figures = [fine_tuning(plain), rounds(records), _classes(summary.classes), _latency_model(summary.time_budget)]
    return [figure for figure in figures if figure is not None]


def _classes(classes: Classes | None) -> Figure | None:
    if classes is None or not len(classes.names) == len(classes.images) == len(classes.dense) == len(classes.finetuned):
        return None
    return class_changes(classes.names, classes.images, classes.dense, classes.finetuned)


def _latency_model(time_budget: Mapping[str, Any] | None) -> Figure | None:
    """Draws the check of the model that a budget in time relied on."""
    found = time_budget or {}
    try:
        points = as_type(found.get("model_points", []), list[tuple[_Share, _Share]])
        own = as_type((found.get("predicted"), found.get("measured")), tuple[_Share, _Share])
    except ValueError:
        return None
    return predicted_against_measured(points, own if found.get("budget", 2) <= 1 else None)


def _repetition(run: RunRecord) -> Section:
    """Returns the section on how to repeat the run."""
    environment = run.environment
    facts = [f"seed {run.summary.seed}"]
    facts += [f"{name} {environment[name]}" for name in ("device", "processor", "threads") if environment.get(name)]
    versions = ", ".join(f"{name} {version}" for name, version in run.summary.versions.items())
    commands = []
    if run.command and run.config:
        commands = [f"amc {run.command} --config {shlex.quote(str(run.folder / 'config.yaml'))} --out ANOTHER_FOLDER"]
    return Section(
        "How to repeat it",
        paragraphs=[f"{', '.join(facts)}.", f"Versions: {versions}."],
        commands=commands,
        listing=run.config,
        listing_title="Every option of the run (config.yaml)",
    )


def _budget_words(summary: Summary) -> str:
    """Describes the budget: `"50.0% of the FLOPs"`."""
    shares = [
        f"{100 * limit / dense:.1f}% of the {_noun(name)}"
        for name, limit in (summary.budget or {}).items()
        if limit is not None and (dense := summary.costs[name].dense if name in summary.costs else None)
    ]
    return series(shares) or "no bound, size weighed by the reward"


def _costs(costs: Mapping[str, float | None], dense: Mapping[str, float | None]) -> tuple[str, ...]:
    """Describes the costs of a network: each as a count, a share, and a factor."""
    cells: list[str] = []
    for name, whole in dense.items():
        cost = costs.get(name)
        shares = (f"{100 * cost / whole:.1f}%", f"{whole / cost:.2f}") if cost and whole else ("-", "-")
        words = amount(cost, name) if name == LATENCY and cost is not None else _count(cost)
        cells += [words, *shares]
    return tuple(cells)


def _noun(metric: str) -> str:
    return noun_of(metric) if metric in METRICS else metric


def _count(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}" if float(value).is_integer() else f"{value:,.3g}"
