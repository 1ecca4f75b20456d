"""The files that summarise a finished run."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from amc.data.preprocessing import preprocessing_record
from amc.errors import RunFolderError
from amc.pipeline.deliver import Delivered
from amc.pipeline.result import CompressionResult
from amc.pipeline.summary import metric_title, not_counted, own_rules
from amc.pipeline.task import Task
from amc.report.run_page import page_of_run
from amc.report.run_record import read_run
from amc.report.tables import FILE_WIDTH, allocation_table, networks_table, render, sparsity_table, summary_table
from amc.storage.architecture import describe
from amc.storage.names import PREPROCESSING, REPORT, SUMMARY, SUMMARY_TEXT
from amc.storage.save import save_network
from amc.storage.source import ModelSource
from amc.storage.summary import Summary, accuracies, costs_by_metric
from amc.structure import Allocation
from amc.utils.durable_files import write_text
from amc.utils.json_files import write_json


def write_report(folder: Path, result: CompressionResult) -> str:
    """Writes network, figures, tables and the report into a run's folder.

    Returns:
        The summary table as text, as wide as stdout.
    """
    result.write(folder)
    widths = {name: result.problem.widths(found) for name, found in _allocations(result).items()}
    summary, tables = summary_table(result.summary), [allocation_table(result.problem, widths)]
    if result.summary["sparsity"]:
        tables.append(sparsity_table(result.summary["sparsity"]))
    write_text(folder / SUMMARY_TEXT, "\n".join(render(table, FILE_WIDTH) for table in (summary, *tables)))
    _write_page(folder)
    return render(summary)


def write_network(folder: Path, task: Task, source: ModelSource, delivered: Delivered, dense: float) -> str:
    """Writes a pruned network outside a whole run, and its figures.

    Args:
        folder: The run's folder.
        task: The dense network and its data.
        source: How the dense network is built.
        delivered: The pruned network.
        dense: The dense network's test figure.

    Returns:
        A table of the figures.
    """
    save_network(
        folder,
        delivered.model,
        describe(task.model, task.structure, delivered.kept, source, example_input=task.example_input),
    )
    left_out, own_rule = not_counted(task), own_rules(task)
    write_json(
        folder / SUMMARY,
        Summary(
            command="prune",
            model=source.reference,
            seed=task.seed,
            costs=costs_by_metric(delivered.costs, task.problem.dense_costs),
            accuracy=accuracies(dense, delivered.pruned),
            metric=metric_title(task, dense),
            not_counted=left_out,
            counted_by_own_rule=own_rule,
            pruning=asdict(task.pruning),
        ).as_dict(),
    )
    record = None if task.data is None else preprocessing_record(task.data.test)
    if record is not None:
        write_json(folder / PREPROCESSING, record)
    rows = {"dense": (task.problem.dense_costs, dense), "pruned": (delivered.costs, delivered.pruned)}
    table = networks_table(rows, left_out, own_rule)
    write_pages(folder, table)
    return render(table)


def write_pages(folder: Path, table: Table, *notes: str) -> None:
    """Writes the table of a network that is not part of a whole run, and its report, into its folder.

    Args:
        folder: The folder, which has its `summary.json`.
        table: What the command prints.
        notes: Lines below the table; empty ones are left out.
    """
    write_text(folder / SUMMARY_TEXT, "".join([render(table, FILE_WIDTH), *(f"{note}\n" for note in notes if note)]))
    _write_page(folder)


def _write_page(folder: Path) -> None:
    """Writes the report of a run; one of more candidates or classes than a page can show has none."""
    try:
        page = page_of_run(read_run(folder))
    except RunFolderError as error:
        warnings.warn(f"no report is written: {error}", RuntimeWarning, stacklevel=2)
        return
    page.write(folder / REPORT)


def _allocations(result: CompressionResult) -> dict[str, Allocation]:
    """Returns the allocations by agent, the run's own agent first."""
    others = {name: _allocation(figures) for name, figures in result.baselines.items()}
    return {result.summary["agent"]: result.allocation, **others}


def _allocation(figures: Mapping[str, Any]) -> Allocation:
    return Allocation.from_dict(figures["allocation"])
