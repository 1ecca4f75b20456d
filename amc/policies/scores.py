"""Scores of a training's candidates: measured once, and answered from the record where an earlier start has them."""

from __future__ import annotations

from amc.pipeline.racing import RacingEvaluator
from amc.problem.evaluator import Evaluator, EvaluatorProxy
from amc.problem.score import Score
from amc.structure import Allocation
from amc.utils.random_state import kept_random_state


class SharedScores(EvaluatorProxy):
    """Scores each allocation of a network on the whole search split once, whatever the budget and the reward."""

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


class RecordedScores(EvaluatorProxy):
    """Answers for a task where an earlier start has measured an allocation already."""

    def __init__(self, evaluator: Evaluator, race: RacingEvaluator | None) -> None:
        """Starts with no record.

        Args:
            evaluator: Measures what is not known, on the whole split.
            race: Measures it in stages where candidates race; None where they do not.
        """
        super().__init__(race or evaluator)
        self._race = race
        self._known: dict[tuple[int, ...], Score] = {}

    def recall(self, allocation: Allocation, score: Score, *, is_past: bool) -> None:
        """Takes a score of the record, in the order of the episodes.

        Args:
            allocation: What was scored.
            score: The score.
            is_past: Whether its episode will not be played again.
        """
        self._known.setdefault(allocation.key(), score)
        if is_past and self._race is not None:
            self._race.observe(allocation, score)

    def score(self, allocation: Allocation) -> Score:
        """Scores an allocation, from the record if possible."""
        known = self._known.get(allocation.key())
        if known is None:
            with kept_random_state():
                return self.inner.score(allocation)
        if self._race is not None:
            self._race.observe(allocation, known)
        return known
