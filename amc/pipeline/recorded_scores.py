"""Scores of candidates, taken from the record where an earlier start has measured them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from amc.pipeline.racing import RacingEvaluator
from amc.problem.evaluator import Evaluator, EvaluatorProxy
from amc.problem.score import Score
from amc.structure import Allocation
from amc.utils.random_state import kept_random_state


class RecordedScores(EvaluatorProxy):
    """Gives recorded scores for allocations that an earlier start has measured."""

    def __init__(
        self,
        evaluator: Evaluator,
        race: RacingEvaluator | None = None,
        known: Mapping[tuple[int, ...], Score] | None = None,
    ) -> None:
        """Takes the record.

        Args:
            evaluator: Measures what is not recorded.
            race: Takes note of recorded scores; None where candidates do not race.
            known: Scores by the key of their allocation; none if not given.
        """
        super().__init__(evaluator)
        self._race = race
        self._known: dict[tuple[int, ...], Score] = dict(known or {})

    def recall(self, allocation: Allocation, score: Score, *, is_past: bool) -> None:
        """Takes a score from the record, in the order of the episodes.

        Args:
            allocation: What was scored.
            score: The score.
            is_past: Whether its episode will not be played again.
        """
        self._known.setdefault(allocation.key(), score)
        if is_past and self._race is not None:
            self._race.observe(allocation, score)

    def expect(self, allocations: Sequence[Allocation]) -> None:
        """Announces the allocations that the record does not have; see `Evaluator`."""
        self.inner.expect([allocation for allocation in allocations if allocation.key() not in self._known])

    def score(self, allocation: Allocation) -> Score:
        """Scores an allocation, from the record if possible."""
        known = self._known.get(allocation.key())
        if known is None:
            # What an evaluator draws must not shift what the agent draws, or a resumed search, which does not ask it
            # again, would take another way.
            with kept_random_state():
                return self.inner.score(allocation)
        if self._race is not None:
            self._race.observe(allocation, known)
        return known
