"""The cells of a study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agents import check_plan
from amc.costs import Budget
from amc.study.variants import Variant
from amc.utils.conversion import check_seed


@dataclass(frozen=True)
class Cell:
    """One search.

    Attributes:
        variant: Who searches.
        budget: Share kept of the dense cost.
        episodes: Candidates that may be tried.
        seed: Seed of the agent. Data, tables and network are the same for all seeds.
    """

    variant: Variant
    budget: float
    episodes: int
    seed: int

    @property
    def key(self) -> tuple[str, float, int, int]:
        """The identity of a cell."""
        return self.variant.label, self.budget, self.episodes, self.seed


def check_cells(cells: Sequence[Cell], metric: str) -> None:
    """Checks what the cells choose, as far as that takes no network and no data.

    Args:
        cells: The cells.
        metric: What their budgets bound.

    Raises:
        ConfigurationError: If a seed or a number of episodes cannot be used.
        BudgetError: If a budget is malformed.
    """
    for cell in cells:
        check_seed(cell.seed)
        check_plan(cell.variant.create(), cell.episodes)
        bounds: Any = {metric: cell.budget}
        Budget(**bounds)


def plan_cells(
    variants: Sequence[Variant], budgets: Sequence[float], episodes: Sequence[int], seeds: Sequence[int]
) -> list[Cell]:
    """Lists the cells of a study: one per budget for agents that play one episode, and one seed for those without."""
    played = [(variant, *variant.counts_and_seeds(episodes, seeds)) for variant in variants]
    cells = [
        Cell(variant, budget, count, seed)
        for budget in budgets
        for variant, counts, own_seeds in played
        for count in counts
        for seed in own_seeds
    ]
    return list({cell.key: cell for cell in cells}.values())
