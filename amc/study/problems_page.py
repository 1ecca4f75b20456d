"""What a study of several problems came to, side by side."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from amc.errors import RunFolderError
from amc.report.page import Page, Section, Table
from amc.study.page import page_of_study, study_records
from amc.study.problems import played_folders
from amc.study.tables import agents_table, markdown, share_or_count
from amc.utils.counted import counted
from amc.utils.intervals import mean_with_interval, paired_differences

LEARNED = "ddpg"
"""The agent whose lead the table of leads shows."""
_REFERENCE = "uniform"
_LEADS = (
    "problem", "budget", "measured", "dense", "uniform", "ddpg", "ddpg less uniform", "best other", "its accuracy",
    "ddpg less it",
)  # fmt: skip
_MEASURES = {"pruned": "before fine-tuning", "finetuned": "after"}


def problem_records(folder: Path) -> list[dict[str, Any]]:
    """Reads the cells of all problems of a study; each names its problem.

    Raises:
        RunFolderError: If there are none, or a file is damaged.
    """
    found = [{**record, "problem": name} for name, place in played_folders(folder) for record in study_records(place)]
    if not found:
        raise RunFolderError(f"{folder} must hold problems that were played, and holds none; run amc study --problems")
    return found


def problems_table(folder: Path) -> str:
    """Summarises a study of several problems as Markdown: where learned allocations lead, then every agent."""
    records = problem_records(folder)
    return f"{leads_table(records)}\n{agents_table(records)}"


def leads_table(records: Sequence[Mapping[str, Any]], measures: Sequence[str] = tuple(_MEASURES)) -> str:
    """Shows as Markdown where learned allocations lead and where they do not; see `leads`."""
    return markdown(_LEADS, leads(records, measures))


def leads(records: Sequence[Mapping[str, Any]], measures: Sequence[str] = tuple(_MEASURES)) -> list[tuple[str, ...]]:
    """Compares the learned allocation with the uniform one and with the best of all others, problem by problem.

    The best other is chosen by its mean on the same test images, which favours it. Differences to it are between
    means, those to the uniform allocation are paired by seed where it has several. Searches of different numbers of
    candidates are compared apart.

    Args:
        records: Cells that name their problem.
        measures: `"pruned"`, `"finetuned"` or both.
    """
    groups: dict[tuple[str, float], list[Mapping[str, Any]]] = {}
    for record in records:
        groups.setdefault((str(record["problem"]), record["budget"]), []).append(record)
    rows = []
    for (problem, budget), cells in groups.items():
        for named, compared in _by_candidates(cells):
            kept = f"{share_or_count(budget)} {cells[0]['metric']}{named}"
            for measure in measures:
                row = _lead(compared, measure)
                if row is not None:
                    rows.append((problem, kept, _MEASURES[measure], *row))
    return rows


def _by_candidates(cells: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[Mapping[str, Any]]]]:
    """Divides cells by how many candidates a search had, those of rules that play one with each.

    Returns:
        For each number, in rising order, what to call it, nothing where there is but one, and its cells.
    """
    counts = sorted({cell["episodes"] for cell in cells} - {1}) or [1]
    return [
        (f", {count} candidates" if len(counts) > 1 else "", [cell for cell in cells if cell["episodes"] in (1, count)])
        for count in counts
    ]


def _lead(cells: Sequence[Mapping[str, Any]], measure: str) -> tuple[str, ...] | None:
    """Returns the figures of a row; None where the learned or the uniform allocation was not measured."""
    found: dict[str, dict[int, float]] = {}
    for cell in cells:
        if cell.get(measure) is not None:
            found.setdefault(cell["agent"], {})[cell["seed"]] = cell[measure]
    if LEARNED not in found or _REFERENCE not in found:
        return None
    learned, uniform = found[LEARNED], found[_REFERENCE]
    ahead = paired_differences(learned.items(), uniform)
    others = {who: statistics.fmean(by_seed.values()) for who, by_seed in found.items() if not who.startswith(LEARNED)}
    best = max(others, key=lambda who: others[who])
    dense = cells[0].get("dense")
    return (
        "-" if dense is None else f"{dense:.2f}",
        mean_with_interval(list(uniform.values()), 2),
        mean_with_interval(list(learned.values()), 2),
        mean_with_interval(ahead, 2),
        f"`{best}`",
        f"{others[best]:.2f}",
        f"{statistics.fmean(learned.values()) - others[best]:+z.2f}",
    )


def page_of_problems(folder: Path) -> Page:
    """Builds the report of a study of several problems: where learned allocations lead, then each problem.

    Raises:
        RunFolderError: If no problem was played, or a file is damaged.
    """
    records, places = problem_records(folder), played_folders(folder)
    rows = tuple(tuple(cell.strip("`") for cell in row) for row in leads(records))
    caption = (
        "Means over seeds of the accuracy on the test images in percent, with half the 95% interval. The best other is "
        "chosen by the same figures, which favours it."
    )
    sections = [Section("Learned and other allocations", tables=[Table(_LEADS, rows, caption, "leads")])]
    for name, place in places:
        sections += [_titled(section, name, place.name) for section in page_of_study(place).sections]
    count = counted(len(records), "search", "searches")
    return Page(f"Study of {counted(len(places), 'problem')}", f"{count} on {_names(places)}.", sections)


def _titled(section: Section, name: str, stem: str) -> Section:
    """Names the problem in the title of a section, and in the files of its figures and tables."""
    figures = [replace(figure, name=f"{stem}-{figure.name}") for figure in section.figures]
    tables = [replace(table, name=f"{stem}-{table.name}") for table in section.tables]
    return replace(section, title=f"{name}: {section.title}", figures=figures, tables=tables)


def _names(places: Sequence[tuple[str, Path]]) -> str:
    return ", ".join(name for name, _ in places)
