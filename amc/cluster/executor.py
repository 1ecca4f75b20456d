"""Where jobs are done: in this process, or by workers elsewhere, behind one interface."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, Protocol, TypeAlias

from amc.utils.progress import Shows

Watch: TypeAlias = Callable[[float], object]
"""Called about once a second with the jobs that are under way, each counted by the share of it that is done."""


class Replica(Protocol):
    """What every worker holds a copy of: it does the jobs.

    The result of a job must depend on nothing but the job and what the replica was made of: neither on the worker nor
    on the jobs that it did before.
    """

    def work(self, job: Any, shown: Shows) -> Any:
        """Does a job and returns its result.

        Args:
            job: The job.
            shown: Shows how far it is.
        """

    def fingerprint(self) -> str:
        """Returns a digest of the data, the same wherever the data is the same.

        Raises:
            OSError: If the data is not here.
        """


class Executor(Protocol):
    """Does jobs, and hands out their results as they finish.

    Attributes:
        workers: How many jobs are done side by side.
    """

    workers: int

    def submit(self, job: Any, *, first: bool = False) -> int:
        """Takes a job, and returns its number.

        Args:
            job: The job.
            first: Whether it goes before those that wait.
        """

    def results(self, watch: Watch | None = None) -> Iterator[tuple[int, Any]]:
        """Yields the numbers of jobs with their results, in the order in which they finish, until none is left.

        Jobs may be submitted while it runs, and the iterator may be dropped: another one carries on.

        Raises:
            AmcError: What a job raised, or ClusterError if no worker is left.
        """

    def close(self) -> None:
        """Gives back what the workers hold."""


OpenExecutor: TypeAlias = Callable[[Replica, Shows], Executor]
"""Brings a replica to the workers; called when there is something to do."""


class InProcess:
    """Does the jobs in this process, one after the other, on the replica itself."""

    workers = 1

    def __init__(self, replica: Replica, shown: Shows) -> None:
        """Takes the replica, and what shows how far each job is."""
        self._replica, self._shown = replica, shown
        self._numbers = count()
        self._waiting: deque[tuple[int, Any]] = deque()

    def submit(self, job: Any, *, first: bool = False) -> int:
        """Takes a job; see `Executor`."""
        number = next(self._numbers)
        (self._waiting.appendleft if first else self._waiting.append)((number, job))
        return number

    def results(self, watch: Watch | None = None) -> Iterator[tuple[int, Any]]:
        """Does the jobs as the results are asked for; see `Executor`."""
        while self._waiting:
            number, job = self._waiting.popleft()
            yield number, self._replica.work(job, self._shown)

    def close(self) -> None:
        """Does nothing."""


def in_process(replica: Replica, shown: Shows) -> Executor:
    """Returns what does the jobs in this process; the default of everything that takes an `OpenExecutor`."""
    return InProcess(replica, shown)
