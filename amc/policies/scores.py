"""Scores of a training's candidates, each measured once."""

from __future__ import annotations

from amc.problem.evaluator import Evaluator, EvaluatorProxy
from amc.problem.score import Score
from amc.structure import Allocation
from amc.utils.random_state import kept_random_state


class SharedScores(EvaluatorProxy):
    """Scores each allocation of a network once, on the whole search split, for all budgets and rewards."""

    def __init__(self, evaluator: Evaluator) -> None:
        """Starts with no scores."""
        super().__init__(evaluator)
        self._scores: dict[tuple[int, ...], Score] = {}

    def score(self, allocation: Allocation) -> Score:
        """Scores an allocation, from memory if possible; leaves the global random state alone."""
        key = allocation.key()
        if key not in self._scores:
            with kept_random_state():
                self._scores[key] = self.inner.score(allocation)
        return self._scores[key]
