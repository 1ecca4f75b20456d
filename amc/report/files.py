"""The files that sum a finished run up for a person."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from amc.compress import CompressionResult
from amc.records import write_text
from amc.report.plots import plot_run
from amc.report.tables import allocation_table, render, summary_table
from amc.structure import Allocation


def write_report(folder: Path, result: CompressionResult) -> str:
    """Writes network, figures, tables and plots into a run's folder.

    Returns:
        The summary table as text.
    """
    result.save(folder)
    widths = {name: result.problem.widths(found) for name, found in _allocations(result).items()}
    text = render(summary_table(result.summary))
    write_text(folder / "summary.txt", text + "\n" + render(allocation_table(result.problem, widths)))
    plot_run(folder / "report.png", result.problem, result.episodes, widths)
    return text


def _allocations(result: CompressionResult) -> dict[str, Allocation]:
    """Returns who keeps what, the run's own agent first."""
    others = {name: _allocation(figures) for name, figures in result.baselines.items()}
    return {result.summary["agent"]: result.allocation, **others}


def _allocation(figures: Mapping[str, Any]) -> Allocation:
    return Allocation.from_dict(figures["allocation"])
