"""Means with intervals, as Markdown."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from scipy import stats


def half_width(values: Sequence[float]) -> float | None:
    """Returns half the 95% interval of a mean by Student's t distribution; None for fewer than two values."""
    if len(values) < 2:
        return None
    quantile = float(stats.t.ppf(0.975, len(values) - 1))
    return quantile * statistics.stdev(values) / math.sqrt(len(values))


def mean_with_interval(values: Sequence[float], digits: int) -> str:
    """Describes a mean with half its 95% interval: `"91.20 ± 0.31"`; the mean alone for one value, `"-"` for none."""
    if not values:
        return "-"
    half = half_width(values)
    mean = f"{statistics.fmean(values):.{digits}f}"
    return mean if half is None else f"{mean} ± {half:.{digits}f}"


def agents_table(records: Iterable[Mapping[str, Any]]) -> str:
    """Sums the cells of a study up: one row an agent, budget and number of episodes, the best reward first.

    Args:
        records: As `AgentsStudy` writes them.
    """
    rows: dict[tuple[float, int, str], list[Mapping[str, Any]]] = {}
    for record in records:
        rows.setdefault((record["budget"], record["episodes"], record["agent"]), []).append(record)

    def order(row: tuple[tuple[float, int, str], list[Mapping[str, Any]]]) -> tuple[float, int, float]:
        (budget, episodes, _), found = row
        return -budget, -episodes, -statistics.fmean(record["reward"] for record in found)

    body = [_row(*key, found) for key, found in sorted(rows.items(), key=order)]
    heading = ("budget", "episodes", "agent", "seeds", "reward", "before fine-tuning", "after")
    return markdown(heading, body)


def share_or_count(budget: float) -> str:
    """Describes a budget as the user gave it: a share in percent, or a count."""
    return f"{100 * budget:g}%" if budget <= 1 else f"{budget:,.0f}"


def markdown(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lays out a Markdown table."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def _row(budget: float, episodes: int, agent: str, found: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    finetuned = [record["finetuned"] for record in found if record["finetuned"] is not None]
    return (
        f"{share_or_count(budget)} {found[0]['metric']}",
        str(episodes),
        f"`{agent}`",
        str(len(found)),
        mean_with_interval([record["reward"] for record in found], 4),
        mean_with_interval([record["pruned"] for record in found], 2),
        mean_with_interval(finetuned, 2),
    )
