"""The tables that a person reads."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from amc.costs import PruningProblem
from amc.structure import ChannelGroup, ModelStructure


def summary_table(summary: Mapping[str, Any]) -> Table:
    """Shows what a run came to: one row a network.

    Args:
        summary: As `summary.json` holds it.
    """
    budget, accuracy = summary["budget"], summary["accuracy"]
    title = f"{summary['model']}, without a budget"
    if budget["target"] is not None:
        share = _share(budget["target"], summary[budget["metric"]]["dense"])
        title = f"{summary['model']}, budget {share} of the {_metric(budget['metric'])}"
    table = Table(title=title, caption="accuracy: top-1 on the test images, in percent; FLOPs: a multiply-add is one")
    table.add_column("network")
    for heading in ("FLOPs", "params", "pruned", "fine-tuned", "lost"):
        table.add_column(heading, justify="right")
    dense = accuracy["dense"]
    table.add_row(
        "dense", _count(summary["flops"]["dense"]), _count(summary["params"]["dense"]), "", _percent(dense), ""
    )
    rows = {summary["agent"]: (summary["flops"]["pruned"], summary["params"]["pruned"], accuracy)}
    for name, baseline in summary["baselines"].items():
        rows[name] = (baseline["flops"], baseline["params"], baseline)
    for name, (flops, params, figures) in rows.items():
        table.add_row(
            name,
            _of(flops, summary["flops"]["dense"]),
            _of(params, summary["params"]["dense"]),
            _percent(figures["pruned"]),
            _percent(figures["finetuned"]),
            _difference(figures["finetuned"], dense),
        )
    return table


def networks_table(rows: Mapping[str, tuple[int, int, float]]) -> Table:
    """Shows networks: FLOPs, parameters and test accuracy in percent, by name."""
    table = Table(caption="accuracy: top-1 on the test images, in percent; FLOPs: a multiply-add is one")
    table.add_column("network")
    for heading in ("FLOPs", "params", "accuracy"):
        table.add_column(heading, justify="right")
    for name, (flops, params, accuracy) in rows.items():
        table.add_row(name, f"{flops:,}", f"{params:,}", _percent(accuracy))
    return table


def structure_table(structure: ModelStructure, problem: PruningProblem | None) -> Table:
    """Shows the channel groups of a network: what each is, costs, and whether it can be pruned.

    Args:
        structure: The traced network.
        problem: The decisions under the user's rules; None if nothing can be pruned.
    """
    table = Table(
        title=f"{len(structure.groups)} channel groups, {_count(structure.dense_flops)} FLOPs, "
        f"{_count(structure.dense_params)} parameters",
        caption="FLOPs and params: of the layers that write the channels; a multiply-add is one FLOP",
    )
    table.add_column("group", no_wrap=True)
    table.add_column("written by")
    for heading in ("channels", "FLOPs", "params"):
        table.add_column(heading, justify="right")
    table.add_column("prunable")
    decided = {decision.group for decision in problem.decisions} if problem else set()
    for index, group in enumerate(structure.groups):
        layers = [layer for layer in structure.layers if layer.writes == index]
        table.add_row(
            group.name,
            _writers(group),
            str(group.channels),
            _of(sum(layer.flops for layer in layers), structure.dense_flops),
            _of(sum(layer.params for layer in layers), structure.dense_params),
            _prunable(group, index in decided),
        )
    return table


def allocation_table(problem: PruningProblem, allocations: Mapping[str, Sequence[int]]) -> Table:
    """Shows what every decision keeps, one column an allocation.

    Args:
        problem: The decisions.
        allocations: Widths by the name of whoever chose them.
    """
    table = Table(title=f"kept {'channels' if problem.kind == 'filter' else 'weights'}")
    table.add_column("layer", overflow="fold")
    table.add_column("dense", justify="right")
    for name in allocations:
        table.add_column(name, justify="right")
    for index, decision in enumerate(problem.decisions):
        table.add_row(decision.name, str(decision.size), *(str(widths[index]) for widths in allocations.values()))
    return table


def render(table: Table, width: int = 100) -> str:
    """Returns a table as plain text."""
    console = Console(file=io.StringIO(), width=width, force_terminal=False, color_system=None)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n"


def _prunable(group: ChannelGroup, decided: bool) -> str:
    if group.reason is not None:
        return f"no: {group.reason}"
    if decided:
        return "yes"
    return "no: residual stream (--pruning.residual true)" if group.residual else "no: excluded, or too narrow"


def _writers(group: ChannelGroup) -> str:
    """Names the layers that write a group: one by itself, or how many more."""
    others = len(group.writers) - 1
    return "itself" if others < 1 else f"and {others} more"


def _metric(name: str) -> str:
    return {"flops": "FLOPs", "params": "parameters"}.get(name, name)


def _count(number: int) -> str:
    """Words a count: `"126.6 M"`, `"41.2 k"`, `"640"`."""
    for bound, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= bound:
            return f"{number / bound:.1f}{unit}"
    return str(number)


def _of(number: int, dense: int) -> str:
    return f"{_count(number)} ({number / dense:.1%})"


def _share(target: int, dense: int) -> str:
    return f"{target / dense:.1%}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _difference(value: float | None, dense: float | None) -> str:
    return "" if value is None or dense is None else f"{dense - value:+.2f}"
