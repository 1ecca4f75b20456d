"""An evaluator that lets workers score the candidates that are played side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from amc.cluster import Executor
from amc.data import DataRoles
from amc.pipeline.data_fingerprint import fingerprint
from amc.pipeline.families import Family
from amc.problem.evaluator import Evaluator, EvaluatorProxy
from amc.problem.score import Score
from amc.structure import Allocation
from amc.utils.progress import Shows


class CandidateReplica:
    """Scores candidates in a worker; see `amc.cluster.Replica`."""

    def __init__(self, family: Family, data: DataRoles | None) -> None:
        """Takes what scores them.

        Args:
            family: Has the tables, and makes the evaluator where one is asked for: in the worker.
            data: The data, to compare with that of others.
        """
        self._family, self._data = family, data

    def work(self, job: Allocation, shown: Shows) -> Score:
        """Scores an allocation on the whole search split."""
        return self._family.evaluator.score(job)

    def fingerprint(self) -> str:
        """Returns a digest of the data."""
        return "" if self._data is None else fingerprint(self._data)


class SpreadEvaluator(EvaluatorProxy):
    """Has the allocations that are announced scored by an executor, and all others by the evaluator behind it.

    A score is a function of the allocation: it is the same wherever it was measured.
    """

    def __init__(self, evaluator: Evaluator, executor: Executor) -> None:
        """Takes the evaluator of this process, and the workers."""
        super().__init__(evaluator)
        self._executor = executor
        self._numbers: dict[tuple[int, ...], int] = {}
        self._scores: dict[int, Score] = {}

    @property
    def side_by_side(self) -> int:
        """How many workers there are."""
        return self._executor.workers

    def expect(self, allocations: Sequence[Allocation]) -> None:
        """Gives the allocations to the workers."""
        for allocation in allocations:
            key = allocation.key()
            if key not in self._numbers:
                self._numbers[key] = self._executor.submit(allocation)

    def score(self, allocation: Allocation) -> Score:
        """Scores an allocation, or waits for the worker that does."""
        number = self._numbers.get(allocation.key())
        if number is None:
            return self.inner.score(allocation)
        if number not in self._scores:
            results: Iterator[tuple[int, Any]] = self._executor.results()
            for found, score in results:
                self._scores[found] = score
                if found == number:
                    break
        return self._scores[number]
