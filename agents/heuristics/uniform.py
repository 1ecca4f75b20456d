"""The uniform heuristic."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from agents.heuristics.base import Heuristic

if TYPE_CHECKING:
    from amc.problem import PruningProblem


class Uniform(Heuristic):
    """Keeps the same share of every decision; without a budget, everything."""

    name: ClassVar[str] = "uniform"

    def keep_ratios(self, problem: PruningProblem) -> list[float]:
        """Returns the same keep ratio for every decision."""
        return [1.0] * len(problem.decisions)
