"""The progress of a study's agents: a table for the terminal."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from amc.utils.printable import printable

_LONGEST = 28
"""Characters of an agent's name that are shown."""


def standing_table(
    records: Sequence[Mapping[str, Any]], wanted: Sequence[tuple[str, float, int, int]] | None = None, title: str = ""
) -> Table:
    """Shows the mean reward by agent and budget, and the number of searches.

    Args:
        records: The cells that were played.
        wanted: All cells: agent, budget, candidates, seed; None if they are not known.
        title: Title of the table.
    """
    played = [(str(r.get("agent")), _number(r.get("budget")), _number(r.get("reward"))) for r in records]
    cells = [(agent, budget) for agent, budget, _, _ in wanted or ()]
    known = [(agent, budget) for agent, budget, _ in played]
    agents = list(dict.fromkeys(agent for agent, _ in [*cells, *known]))
    budgets = sorted({budget for _, budget in [*cells, *known]}, reverse=True)
    table = Table(title=Text(printable(title)) if title else None, box=None, pad_edge=False)
    table.add_column("reward")
    for budget in budgets:
        table.add_column(f"{100 * budget:g}%" if budget <= 1 else f"{budget:,.0f}", justify="right")
    for agent in agents:
        row = [
            _cell([reward for a, b, reward in played if (a, b) == (agent, budget)], cells.count((agent, budget)))
            for budget in budgets
        ]
        name = printable(agent)
        table.add_row(Text(name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"), *map(Text, row))
    return table


def _cell(rewards: Sequence[float], total: int) -> str:
    """Describes the searches of one agent at one budget: their mean, and how many of them are done."""
    if not rewards:
        return f"0/{total}" if total else ""
    count = f"{len(rewards)}/{total}" if total else f"{len(rewards)}"
    return f"{statistics.fmean(rewards):.4f} ({count})"


def _number(value: Any) -> float:
    """Returns a number of a record; 0 for anything else that a file may hold."""
    return float(value) if isinstance(value, int | float) else 0.0
