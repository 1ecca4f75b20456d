"""The cells of a study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from amc.study.variants import Variant


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


def plan_cells(
    variants: Sequence[Variant], budgets: Sequence[float], episodes: Sequence[int], seeds: Sequence[int]
) -> list[Cell]:
    """Lists the cells of a study; agents that play one episode have one cell per budget."""
    cells = []
    for budget in budgets:
        for variant in variants:
            if variant.plays_once:
                cells.append(Cell(variant, budget, 1, 0))
            else:
                cells += [Cell(variant, budget, count, seed) for count in episodes for seed in seeds]
    return list({cell.key: cell for cell in cells}.values())
