"""How long scoring takes, beside what the agent itself does."""

from __future__ import annotations

import time

from amc.problem.evaluator import Evaluator, EvaluatorProxy
from amc.problem.score import Score
from amc.structure import Allocation


class TimedEvaluator(EvaluatorProxy):
    """Adds up the time that scoring takes."""

    def __init__(self, evaluator: Evaluator) -> None:
        """Takes the evaluator that scores."""
        super().__init__(evaluator)
        self._seconds = 0.0

    def score(self, allocation: Allocation) -> Score:
        """Scores an allocation."""
        start = time.perf_counter()
        try:
            return self.inner.score(allocation)
        finally:
            self._seconds += time.perf_counter() - start

    def take_seconds(self) -> float:
        """Returns the seconds since the last call."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds
