"""The tables for the terminal."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from amc.costs.metrics import LATENCY, noun_of
from amc.problem import PruningProblem
from amc.structure import ChannelGroup, ModelStructure
from amc.utils.counted import counted
from amc.utils.printable import printable, series

FILE_WIDTH = 100
"""Width in columns of tables that are not for a terminal."""
_NAMED = 8
"""Most layers of a kind that a note names."""
_TOP_1 = "top-1 on the test images, in percent"


def summary_table(summary: Mapping[str, Any]) -> Table:
    """Shows the results of a run: one row per network.

    Args:
        summary: As `summary.json` holds it.
    """
    accuracy, dense = summary["accuracy"], summary["accuracy"]["dense"]
    dense_costs = {metric: cost["dense"] for metric, cost in summary["costs"].items()}
    table = Table(
        title=f"{summary['model']}, {_budget(summary)}",
        caption=_caption(summary["not_counted"], summary.get("counted_by_own_rule", {}), summary["metric"] or _TOP_1),
    )
    table.add_column("network")
    for heading in (*map(_heading, dense_costs), "pruned", "fine-tuned", "lost"):
        table.add_column(heading, justify="right")
    table.add_row("dense", *(amount(cost, metric) for metric, cost in dense_costs.items()), "", percent(dense), "")
    pruned_costs = {metric: cost["pruned"] for metric, cost in summary["costs"].items()}
    rows = {summary["agent"]: (pruned_costs, accuracy)}
    for name, baseline in summary["baselines"].items():
        rows[name] = (baseline["costs"], baseline)
    for name, (costs, figures) in rows.items():
        table.add_row(
            name,
            *(_of(costs[metric], cost, metric) for metric, cost in dense_costs.items()),
            percent(figures["pruned"]),
            percent(figures["finetuned"]),
            points_lost(figures["finetuned"], dense),
        )
    table.caption = "\n".join([str(table.caption), *_notes(summary)])
    return table


def _notes(summary: Mapping[str, Any]) -> list[str]:
    """Returns the notes on the networks, by who chose their allocation."""
    by_name = {summary["agent"]: summary, **summary["baselines"]}
    notes = [f"{name}: {note}" for name, figures in by_name.items() for note in figures.get("notes", ())]
    if any(share is not None for share in summary.get("stability", ())):
        notes = [_stability(summary["stability"]), *notes]
    latency = summary.get("latency_ms")
    return notes if latency is None else [_speed(latency), *notes]


def _stability(shares: Sequence[float | None]) -> str:
    """Describes the pruning stability of each round."""
    each = ", ".join("-" if share is None else f"{share:.1f}%" for share in shares)
    rounds = "" if len(shares) == 1 else f" in {len(shares)} rounds, on the search split"
    return f"pruning stability{rounds}: {each} of the accuracy is left at the moment of pruning"


def _speed(latency: Mapping[str, Any]) -> str:
    """Describes the measured latencies."""
    how = f"{latency['engine']} on {latency['device']}, batch {latency['batch_size']}"
    times = f"dense {latency['dense']:.3g} ms, pruned {latency['pruned']:.3g} ms"
    return f"latency: {times} ({latency['ratio']:.2f} of the time, median of paired runs; {how})"


def networks_table(
    rows: Mapping[str, tuple[Mapping[str, int | float], float]],
    uncounted: Mapping[str, int] | None = None,
    own_rule: Mapping[str, int] | None = None,
) -> Table:
    """Shows networks with their costs and accuracies.

    Args:
        rows: Costs by metric and test accuracy in percent, by name; all have the same metrics.
        uncounted: Operators that the FLOPs leave out, and how often each is called.
        own_rule: Operators whose FLOPs are counted by a rule of this project, and how often each is called.
    """
    table = Table(caption=_caption(uncounted or {}, own_rule or {}))
    table.add_column("network")
    metrics = list(next(iter(rows.values()))[0])
    for heading in (*map(_heading, metrics), "accuracy"):
        table.add_column(heading, justify="right")
    for name, (costs, accuracy) in rows.items():
        table.add_row(name, *(f"{costs[metric]:,}" for metric in metrics), percent(accuracy))
    return table


def structure_table(structure: ModelStructure, problem: PruningProblem | None) -> Table:
    """Shows the channel groups of a network: what each is, costs, and whether it can be pruned.

    Args:
        structure: The traced network.
        problem: The decisions under the user's rules; None if nothing can be pruned.
    """
    table = Table(
        title=f"{_groups_and_blocks(structure)}, {_count(structure.dense_flops)} FLOPs, "
        f"{_count(structure.dense_params)} parameters",
        caption="FLOPs and params: share of the layers that write the channels",
    )
    table.add_column("group", overflow="fold")
    for heading in ("layers", "channels", "FLOPs", "params"):
        table.add_column(heading, justify="right")
    table.add_column("prunable", no_wrap=True)
    letters = {reason: letter for letter, reason in obstacles(structure, problem).items()}
    for index, group in enumerate(structure.groups):
        layers = structure.layers_of(index)
        obstacle = _obstacle(index, group, problem)
        table.add_row(
            group.name,
            str(len(group.writers)),
            str(group.channels) if group.block is None else "block",
            _share(sum(layer.flops for layer in layers), structure.dense_flops),
            _share(sum(layer.params for layer in layers), structure.dense_params),
            "yes" if obstacle is None else f"no ({letters[obstacle]})",
        )
    return table


def _groups_and_blocks(structure: ModelStructure) -> str:
    blocks = len(structure.blocks)
    return counted(len(structure.groups) - blocks, "channel group") + (
        f" and {counted(blocks, 'residual block')}" if blocks else ""
    )


def obstacles(structure: ModelStructure, problem: PruningProblem | None) -> dict[str, str]:
    """Returns the reasons why groups are not pruned, by the letters in `structure_table`."""
    found = (_obstacle(index, group, problem) for index, group in enumerate(structure.groups))
    reasons = dict.fromkeys(reason for reason in found if reason is not None)
    return {_letter(place): reason for place, reason in enumerate(reasons)}


def not_run_note(layers: Sequence[str]) -> str:
    """Names layers that an example did not run, the first few of many; empty if it ran all.

    Args:
        layers: As `ModelStructure.not_run` has them.
    """
    if not layers:
        return ""
    more = f" and {len(layers) - _NAMED} more" if len(layers) > _NAMED else ""
    return f"not run by this example, and so left whole: {', '.join(layers[:_NAMED])}{more}"


def allocation_table(problem: PruningProblem, allocations: Mapping[str, Sequence[int]]) -> Table:
    """Shows what every decision keeps, one column per allocation.

    Args:
        problem: The decisions.
        allocations: Widths, by the agent that chose them.
    """
    table = Table(title=f"kept {'channels' if problem.kind == 'filter' else 'weights'}")
    table.add_column("layer", overflow="fold")
    table.add_column("dense", justify="right")
    for name in allocations:
        table.add_column(name, justify="right")
    for index, decision in enumerate(problem.decisions):
        table.add_row(decision.name, str(decision.size), *(str(widths[index]) for widths in allocations.values()))
    return table


def sparsity_table(layers: Sequence[Mapping[str, Any]]) -> Table:
    """Shows how many neurons of each layer are left between the zeros.

    Args:
        layers: The fields of `amc.pruning.neuron_sparsity.NeuronSparsity`, one mapping per layer.
    """
    table = Table(title="zeros by neuron", caption="an output is a neuron or a filter, an input a neuron or a channel")
    table.add_column("layer", overflow="fold")
    for heading in ("weights", "kept", "empty outputs", "unread inputs", "weights an output"):
        table.add_column(heading, justify="right")
    for layer in layers:
        table.add_row(
            layer["layer"],
            f"{layer['weights']:,}",
            _share(layer["kept"], layer["weights"]),
            f"{layer['empty_outputs']} of {layer['outputs']}",
            f"{layer['empty_inputs']} of {layer['inputs']}",
            f"{layer['fewest']} to {layer['most']}",
        )
    return table


def uncounted_note(uncounted: Mapping[str, int]) -> str:
    """Describes what FLOPs leave out: `"not counted in FLOPs: lstm (1 call)"`; empty if nothing.

    Args:
        uncounted: How often each operator is called, by name.
    """
    return f"not counted in FLOPs: {_calls(uncounted)}" if uncounted else ""


def own_rule_note(own_rule: Mapping[str, int]) -> str:
    """Describes which FLOPs are counted by a rule of this project; empty if none are."""
    return f"FLOPs by a rule of amc's own, as fvcore counts none: {_calls(own_rule)}" if own_rule else ""


def _calls(operators: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({counted(count, 'call')})" for name, count in operators.items())


def render(table: Table, width: int | None = None) -> str:
    """Returns a table as plain text.

    Args:
        table: The table.
        width: Columns; if None, those of the terminal, or `FILE_WIDTH` if stdout is not a terminal.
    """
    if width is None:
        width = shutil.get_terminal_size((FILE_WIDTH, 0)).columns if sys.stdout.isatty() else FILE_WIDTH
    table.caption_justify = "left"  # notes are sentences, a line each
    # Text from a file is shown as text: not as markup or control sequences.
    console = Console(file=io.StringIO(), width=width, force_terminal=False, color_system=None, markup=False)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(printable(line.rstrip()) for line in console.file.getvalue().splitlines()) + "\n"


def _obstacle(index: int, group: ChannelGroup, problem: PruningProblem | None) -> str | None:
    """Returns why a group is not pruned under the user's rules, or None if it is."""
    if group.reason is not None:
        return group.reason
    if problem is not None and any(decision.group == index for decision in problem.decisions):
        return None
    return "residual stream; --pruning.residual true prunes it too" if group.residual else "excluded, or too narrow"


def _caption(uncounted: Mapping[str, int], own_rule: Mapping[str, int], metric: str = _TOP_1) -> str:
    """Explains the figures under a table of networks."""
    caption = f"accuracy: {metric}; FLOPs: a multiply-add is one"
    return "\n".join(filter(None, (caption, own_rule_note(own_rule), uncounted_note(uncounted))))


def _letter(place: int) -> str:
    """Numbers notes: a, b, ..., z, aa, ab, ..."""
    head, last = divmod(place, 26)
    return (_letter(head - 1) if head else "") + chr(ord("a") + last)


def _budget(summary: Mapping[str, Any]) -> str:
    """Describes the budget of a run: `"budget 50.0% of the FLOPs and 40.0% of the parameters"`."""
    shares = [
        f"{_share(limit, summary['costs'][metric]['dense'])} of the {noun_of(metric)}"
        for metric, limit in summary["budget"].items()
    ]
    return f"budget {series(shares)}" if shares else "without a budget"


def _heading(metric: str) -> str:
    return {"params": "params", LATENCY: "time (predicted)"}.get(metric, noun_of(metric))


def _count(number: float) -> str:
    """Describes a count: `"126.6 M"`, `"41.2 k"`, `"640"`."""
    for bound, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= bound:
            return f"{number / bound:.1f}{unit}"
    return str(number)


def amount(number: float, metric: str) -> str:
    """Describes a cost: a count, or for a latency milliseconds, as it is predicted."""
    return f"{number / 1e6:.3g} ms" if metric == LATENCY else _count(number)


def _of(number: float, dense: float, metric: str) -> str:
    return f"{amount(number, metric)} ({_share(number, dense)})"


def _share(target: float, dense: float) -> str:
    return f"{target / dense:.1%}" if dense else "-"  # a network without such costs has no shares


def percent(value: float | None) -> str:
    """Describes a figure of a network, such as an accuracy in percent; `"-"` where it was not measured."""
    return "-" if value is None else f"{value:.2f}"


def points_lost(value: float | None, dense: float | None) -> str:
    """Describes how much less than the dense network's a figure is; empty where one was not measured."""
    return "" if value is None or dense is None else f"{dense - value:+.2f}"
