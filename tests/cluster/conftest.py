"""Workers that exist only on paper: a script says when each is ready, done or lost."""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager

import pytest

from amc.cluster.pool import Done, Lost, Ready


class Shown:
    """Keeps what is said."""

    def __init__(self):
        self.lines = []

    @contextmanager
    def stage(self, title, total=100, unit="%"):
        yield lambda share, note="", /: None

    def say(self, line):
        self.lines.append(line)


class PaperFleet:
    """Finishes jobs in an order that the test chooses.

    Attributes:
        order: Called with the busy workers, `{worker: job}`; returns the worker that is next, and whether it is lost.
        assigned: The jobs in the order in which workers got them, with the workers.
    """

    def __init__(self, size, order=None, *, starts=True):
        self.size, self.starts = size, starts
        self.order = order or (lambda busy: (min(busy), False))
        self.hired, self.closed = 0, False
        self.assigned, self.busy, self._events = [], {}, deque()

    def hire(self):
        self.hired += 1
        if self.starts:
            self._events.append(Ready(self.hired))
        return self.hired

    def assign(self, worker, job):
        assert worker not in self.busy, "a worker does one job at a time"
        self.assigned.append((worker, job))
        self.busy[worker] = job

    def wait(self, seconds):
        if self._events:
            return [self._events.popleft()]
        if not self.busy:
            return []
        worker, is_lost = self.order(self.busy)
        job = self.busy.pop(worker)
        return [Lost(worker, "its node is gone") if is_lost else Done(worker, job * 10)]

    def underway(self):
        return 0.5 * len(self.busy)

    def close(self):
        self.closed = True


@pytest.fixture(scope="session")
def make_shown():
    return Shown


@pytest.fixture
def shown():
    return Shown()


@pytest.fixture(scope="session")
def make_fleet():
    return PaperFleet
