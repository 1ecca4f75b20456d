"""Jobs over workers that may die: each job is done by some worker, and done again if that worker is lost."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol, TypeAlias

from amc.cluster.executor import Watch
from amc.errors import ClusterError
from amc.utils.progress import Shows

RETRIES = 3
"""How often a job may lose its worker before the run ends."""
PATIENCE_S = 120.0
"""Seconds without a single worker after which the run ends."""
_TICK_S = 1.0

WorkerId: TypeAlias = Hashable


@dataclass(frozen=True)
class Ready:
    """A worker holds its replica, and takes a job."""

    worker: WorkerId


@dataclass(frozen=True)
class Done:
    """A worker has done its job."""

    worker: WorkerId
    result: Any


@dataclass(frozen=True)
class Lost:
    """A worker has died, or its node has.

    Attributes:
        reason: What is known of it, in a few words.
    """

    worker: WorkerId
    reason: str


@dataclass(frozen=True)
class Failed:
    """A worker is unfit, or its job has failed as it would anywhere.

    Attributes:
        error: What ends the run.
    """

    worker: WorkerId
    error: Exception


Event: TypeAlias = Ready | Done | Lost | Failed


class Fleet(Protocol):
    """Workers somewhere: how they are started, and how they are talked to.

    Attributes:
        size: How many are wanted.
    """

    size: int

    def hire(self) -> WorkerId:
        """Starts a worker, which is ready some time later, or never where no machine is free."""

    def assign(self, worker: WorkerId, job: Any) -> None:
        """Gives a job to a worker that has none."""

    def wait(self, seconds: float) -> Sequence[Event]:
        """Returns what has happened since the last call, as soon as anything has; nothing after some seconds.

        Raises:
            ClusterError: If the cluster does not answer.
        """

    def underway(self) -> float:
        """Returns the jobs under way, each counted by the share that is done, as far as known."""

    def close(self) -> None:
        """Ends all workers."""


class Pool:
    """An executor over a fleet: one job a worker at a time, first come, first served.

    A job whose worker is lost goes first again, up to `RETRIES` times, and another worker is started for the lost one.
    """

    def __init__(self, fleet: Fleet, shown: Shows, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Starts the workers.

        Args:
            fleet: Starts them.
            shown: Says what is lost.
            clock: Returns seconds; for tests.
        """
        self.workers = fleet.size
        self._fleet, self._shown, self._clock = fleet, shown, clock
        self._numbers = count()
        self._waiting: deque[tuple[int, Any]] = deque()
        self._idle: deque[WorkerId] = deque()
        self._busy: dict[WorkerId, tuple[int, Any]] = {}
        self._finished: deque[tuple[int, Any]] = deque()
        self._losses: Counter[int] = Counter()
        self._last_reason = "none has started"
        self._alive_at = clock()
        for _ in range(fleet.size):
            fleet.hire()

    def submit(self, job: Any, *, first: bool = False) -> int:
        """Takes a job; see `Executor`."""
        number = next(self._numbers)
        (self._waiting.appendleft if first else self._waiting.append)((number, job))
        self._assign()
        return number

    def results(self, watch: Watch | None = None) -> Iterator[tuple[int, Any]]:
        """Yields results as they come, and those that are there before anything ends the run; see `Executor`."""
        error: Exception | None = None
        while error is None and (self._finished or self._waiting or self._busy):
            if not self._finished:
                error = self._progress()
                if watch is not None and error is None:
                    watch(self._fleet.underway())
            while self._finished:
                yield self._finished.popleft()
        if error is not None:
            raise error

    def close(self) -> None:
        """Ends all workers."""
        self._fleet.close()

    def _progress(self) -> Exception | None:
        """Waits for events and gives out jobs; returns what ends the run, if anything does."""
        try:
            errors = [error for event in self._fleet.wait(_TICK_S) if (error := self._take(event)) is not None]
            if errors:
                return errors[0]
            self._assign()
            self._check_alive()
        except ClusterError as error:
            return error
        return None

    def _assign(self) -> None:
        """Gives jobs that wait to workers that have none."""
        while self._waiting and self._idle:
            worker, job = self._idle.popleft(), self._waiting.popleft()
            self._busy[worker] = job
            self._fleet.assign(worker, job[1])

    def _take(self, event: Event) -> Exception | None:
        """Takes an event, and returns what ends the run, if that does."""
        if isinstance(event, Lost):
            return self._take_loss(event)
        if isinstance(event, Failed):
            return event.error
        if isinstance(event, Done):
            number, _ = self._busy.pop(event.worker)
            self._finished.append((number, event.result))
        self._idle.append(event.worker)
        return None

    def _take_loss(self, event: Lost) -> Exception | None:
        """Starts another worker, and puts the job of the lost one first."""
        self._last_reason = event.reason
        job = self._busy.pop(event.worker, None)
        if event.worker in self._idle:
            self._idle.remove(event.worker)
        if job is not None:
            self._losses[job[0]] += 1
            if self._losses[job[0]] > RETRIES:
                return ClusterError(
                    f"a job must end on one of {RETRIES + 1} workers, and each was lost (the last: {event.reason}); "
                    "what has finished is kept: give workers more memory, or start fewer (--workers), and repeat the "
                    "command"
                )
            self._waiting.appendleft(job)
        self._shown.say(f"a worker was lost ({event.reason}){'; its job is done again' if job is not None else ''}")
        self._fleet.hire()
        return None

    def _check_alive(self) -> None:
        """Ends the run if there has been no worker for too long."""
        if self._idle or self._busy:
            self._alive_at = self._clock()
        elif self._clock() - self._alive_at > PATIENCE_S:
            raise ClusterError(
                f"a worker must be free within {PATIENCE_S:.0f} s, and none is ({self._last_reason}); what has "
                "finished is kept: start nodes with free processors, or ask for less, and repeat the command"
            )
