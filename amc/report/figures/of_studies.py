"""Figures of studies: agents over budgets, agents against the uniform allocation, rewards against accuracy."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from scipy import stats

from amc.costs.metrics import noun_of
from amc.report.figures.figure import Figure
from amc.report.figures.of_search import shortened
from amc.report.figures.palette import Palette
from amc.utils.intervals import half_width, paired_differences

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

Record = Mapping[str, Any]
_REFERENCE = "uniform"
_SERIES = 8
"""Lines that the palette tells apart by colour alone."""
_MEASURES = {"pruned": "before fine-tuning", "finetuned": "after fine-tuning"}


def trade_off(records: Sequence[Record], measure: str, dense: float | None = None) -> Figure | None:
    """Shows test accuracy over budgets, one line per agent; None for fewer than two budgets.

    Args:
        records: The cells of a study, as `study.jsonl` has them, of one number of candidates.
        measure: `"pruned"` or `"finetuned"`.
        dense: Test accuracy of the dense network, drawn as a line; None if it is not known.
    """
    lines = _means(records, measure)
    ticks = sorted({100 * budget for points in lines.values() for budget, _, _ in points}, reverse=True)
    if len(ticks) < 2:
        return None

    def draw(canvas: Canvas, palette: Palette) -> None:
        axes = canvas.subplots()
        for index, (agent, points) in enumerate(lines.items()):
            budgets = [100 * budget for budget, _, _ in points]
            means, halves = [mean for _, mean, _ in points], [half or 0.0 for _, _, half in points]
            marker = "osD^vP"[index // _SERIES % 6]
            axes.errorbar(
                budgets,
                means,
                yerr=halves,
                fmt=f"{marker}{'-' if index < _SERIES else '--'}",
                color=palette.colour(index),
                label=shortened(agent),
                capsize=3,
            )
        if dense is not None:
            axes.axhline(dense, color=palette.muted, linestyle="--", linewidth=1.2, label="dense")
        metric = noun_of(str(records[0]["metric"]))
        axes.set(xlabel=f"budget, % of the dense {metric}", ylabel="test accuracy, %")
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.invert_xaxis()
        axes.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize=9)

    words = _MEASURES[measure]
    return Figure(
        name=f"trade-off-{measure}",
        title=f"Accuracy over budgets, {words}",
        caption=f"Mean test accuracy {words} over seeds; bars are 95% intervals of the mean by Student's t.",
        draw=draw,
        columns=("agent", "budget_percent", "mean_percent", "half_interval"),
        rows=tuple((agent, 100 * b, mean, half) for agent, points in lines.items() for b, mean, half in points),
        height=4.6 + max(0.0, 0.17 * (len(lines) - 8)),
    )


def differences(records: Sequence[Record], measure: str) -> Figure | None:
    """Shows how far each agent is ahead of the uniform allocation at the same budget; None without that allocation.

    Args:
        records: The cells of a study, of one number of candidates.
        measure: `"pruned"` or `"finetuned"`.
    """
    rows = differences_from_uniform(records, measure)
    if not rows:
        return None
    agents = list(dict.fromkeys(row[0] for row in rows))
    budgets = list(dict.fromkeys(row[1] for row in rows))

    def draw(canvas: Canvas, palette: Palette) -> None:
        axes = canvas.subplots()
        for index, budget in enumerate(budgets):
            shift = 0.6 * ((index + 0.5) / len(budgets) - 0.5)
            found = [row for row in rows if row[1] == budget]
            places = [agents.index(row[0]) + shift for row in found]
            axes.errorbar(
                [row[2] for row in found],
                places,
                xerr=[row[3] or 0.0 for row in found],
                fmt="o",
                color=palette.colour(index),
                label=f"{100 * budget:g}%",
                capsize=3,
            )
        axes.axvline(0, color=palette.muted, linewidth=1)
        axes.set_yticks(range(len(agents)), [shortened(agent) for agent in agents], fontsize=9)
        axes.invert_yaxis()
        axes.set(xlabel="test accuracy minus that of uniform, points")
        axes.legend(ncols=5, loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize=9)

    return Figure(
        name=f"differences-{measure}",
        title=f"Against the uniform allocation, {_MEASURES[measure]}",
        caption="Difference at the same budget, paired by seed where the uniform allocation has several; bars are 95% "
        "intervals. An interval that crosses zero shows no difference.",
        draw=draw,
        columns=("agent", "budget", "mean_difference_points", "half_interval"),
        rows=tuple(rows),
        height=max(3.0, 1.6 + (0.2 + 0.08 * len(budgets)) * len(agents)),
    )


def differences_from_uniform(records: Sequence[Record], measure: str) -> list[tuple[str, float, float, float | None]]:
    """Returns, by agent and budget, the mean difference from the uniform allocation, and half its 95% interval."""
    base: dict[float, dict[int, float]] = {}
    for record in records:
        if record["agent"] == _REFERENCE and record.get(measure) is not None:
            base.setdefault(record["budget"], {})[record["seed"]] = record[measure]
    values: dict[tuple[str, float], list[tuple[int, float]]] = {}
    for record in records:
        if record["agent"] != _REFERENCE and record["budget"] in base and record.get(measure) is not None:
            values.setdefault((record["agent"], record["budget"]), []).append((record["seed"], record[measure]))
    found = {key: paired_differences(own, base[key[1]]) for key, own in values.items()}
    return [(agent, budget, statistics.fmean(all_), half_width(all_)) for (agent, budget), all_ in found.items()]


def reward_against_accuracy(records: Sequence[Record]) -> Figure | None:
    """Shows whether the reward ranks networks as fine-tuning does; None for fewer than three networks.

    Args:
        records: The cells of a study; those that were not fine-tuned are left out.
    """
    tuned = [record for record in records if record.get("finetuned") is not None]
    if len(tuned) < 3:
        return None
    rewards, after = [record["reward"] for record in tuned], [record["finetuned"] for record in tuned]
    tau = float(stats.kendalltau(rewards, after).statistic)

    def draw(canvas: Canvas, palette: Palette) -> None:
        axes = canvas.subplots()
        axes.plot(rewards, after, "o", color=palette.colour(0), alpha=0.7)
        axes.set(xlabel="reward in the search", ylabel="test accuracy after fine-tuning, %")
        axes.set_title(f"Kendall's tau {tau:.2f}, {len(tuned)} networks", fontsize=11)

    return Figure(
        name="reward",
        title="Does the reward rank as fine-tuning does?",
        caption="One point per network. A tau of 1 means the same order, 0 no relation. Networks of several budgets "
        "differ by their size alone; within one budget tau is lower.",
        draw=draw,
        columns=("agent", "budget", "seed", "reward", "finetuned_percent"),
        rows=tuple((r["agent"], r["budget"], r["seed"], r["reward"], r["finetuned"]) for r in tuned),
    )


def _means(records: Sequence[Record], measure: str) -> dict[str, list[tuple[float, float, float | None]]]:
    """Returns, by agent, its budgets in descending order, each with the mean and half the interval."""
    values: dict[str, dict[float, list[float]]] = {}
    for record in records:
        if record.get(measure) is not None:
            values.setdefault(record["agent"], {}).setdefault(record["budget"], []).append(record[measure])
    return {
        agent: [(b, statistics.fmean(found[b]), half_width(found[b])) for b in sorted(found, reverse=True)]
        for agent, found in values.items()
    }
