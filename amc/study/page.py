"""The page of a study: agents beside one another, over budgets and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agents.guides import START_FROM_HEURISTICS
from amc.costs.metrics import noun_of
from amc.errors import RunFolderError
from amc.report.figures import Figure
from amc.report.figures.of_studies import differences, reward_against_accuracy, standings, trade_off
from amc.report.page import Page, Section, Table
from amc.storage.names import CONFIG, STUDY
from amc.study.agents_study import read_cells
from amc.study.repetition import repetition
from amc.study.tables import share_or_count, summary
from amc.utils.bounded_files import read_text
from amc.utils.counted import counted
from amc.utils.json_lines import distinct_values
from amc.utils.plain_yaml import MOST_BYTES, parse_yaml


def page_of_study(folder: Path) -> Page:
    """Builds the report of a study.

    Args:
        folder: Its folder, which is not changed.

    Raises:
        RunFolderError: If it holds no cell that was played, or is damaged.
    """
    records = study_records(folder)
    config, text = _config(folder)
    agents, budgets = distinct_values(records, "agent"), distinct_values(records, "budget")
    seeds = sorted({record["seed"] for record in records})
    counts = sorted({record["episodes"] for record in records})
    cost = f"dense {noun_of(records[0]['metric'])}"
    asked = [
        f"{counted(len(agents), 'agent')} on {config.get('model', 'one network')}: {', '.join(agents)}.",
        f"Budgets: {', '.join(map(share_or_count, budgets))} of the {cost}; "
        f"candidates: {', '.join(map(str, counts))}; seeds: {', '.join(map(str, seeds))}.",
        "All work under the same bounds, data, tables, scores and refit. Agents that play one episode have one seed.",
        *_starts(agents),
    ]
    sections = [
        Section("What was compared", paragraphs=asked),
        Section("What came out", tables=[study_table(records)]),
        *_figures(records),
        repetition(folder, records, text),
    ]
    best = max(records, key=lambda record: (-record["budget"], record["reward"]))
    lead = (
        f"{counted(len(records), 'search', 'searches')}. At the tightest budget, {share_or_count(best['budget'])} "
        f"of the {cost}, the highest reward is {best['reward']:.4f}, by {best['agent']}."
    )
    return Page(f"Study: {config.get('model', folder.name)}", lead, sections)


def study_records(folder: Path) -> list[dict[str, Any]]:
    """Reads the cells of a study.

    Raises:
        RunFolderError: If there are none, or the file is damaged.
    """
    records = read_cells(folder / STUDY)
    if not records:
        raise RunFolderError(f"{folder / STUDY} must hold cells that were played, and is empty; run amc study")
    return records


def study_table(records: Sequence[dict[str, Any]]) -> Table:
    """Compares the agents of a study."""
    heading, rows = summary(records)
    place = heading.index("agent")
    return Table(
        columns=_moved_first(heading, place),
        rows=tuple(_moved_first([*row[:place], row[place].strip("`"), *row[place + 1 :]], place) for row in rows),
        caption="Means over seeds, with half the 95% interval. Speed-up: dense FLOPs over pruned (theoretical). "
        "Compression: dense parameters over pruned. Time: measured, pruned over dense. Accuracies: percent, on the "
        "test images. Ahead of uniform: points of accuracy at the same budget, paired by seed, after fine-tuning where "
        "all networks that are compared have it.",
        name="study",
    )


def _starts(agents: Sequence[str]) -> list[str]:
    """Says which agents start from the allocations of heuristics."""
    starting = [agent for agent in agents if agent.partition(":")[0] in START_FROM_HEURISTICS]
    found = [agent for agent in starting if "warm_start=" not in agent]
    if not found:
        return []
    return [
        f"{', '.join(found)}: the allocations of the same heuristics are played first and count as candidates, so that "
        "by the reward none of these searches can do worse than they; with warm_start=[] a search starts without them."
    ]


def _moved_first(row: Sequence[str], place: int) -> tuple[str, ...]:
    return (row[place], *row[:place], *row[place + 1 :])


def _figures(records: list[dict[str, Any]]) -> list[Section]:
    """Draws the study, one section for each number of candidates."""
    plays_once = [record for record in records if record["episodes"] == 1]
    sections = []
    for count in sorted({record["episodes"] for record in records if record["episodes"] > 1}) or [1]:
        chosen = [record for record in records if record["episodes"] == count]
        chosen = chosen if count == 1 else [*chosen, *plays_once]
        dense = next((record["dense"] for record in chosen if record.get("dense") is not None), None)
        found: list[Figure | None] = []
        for measure in ("pruned", "finetuned"):
            found += [trade_off(chosen, measure, dense), standings(chosen, measure)]
        found += [differences(chosen, measure) for measure in ("pruned", "finetuned")]
        found.append(reward_against_accuracy(chosen))
        figures = [figure for figure in found if figure is not None]
        title = "The agents" if count == 1 else f"With {count} candidates"
        if figures:
            sections.append(Section(title, figures=figures))
    return sections


def _config(folder: Path) -> tuple[dict[str, Any], str]:
    """Reads the rules of a study; empty if they cannot be read."""
    try:
        text = read_text(folder / CONFIG, MOST_BYTES)
        config = parse_yaml(text)
    except (OSError, ValueError):
        return {}, ""
    return (config if isinstance(config, dict) else {}), text
