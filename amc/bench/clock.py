"""Where the time goes: all time is counted for the innermost open section."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from amc.runtime.clock import Clock


class SectionClock:
    """Adds up the time of named sections, which may be nested."""

    def __init__(
        self, outermost: str, clock: Clock = time.perf_counter, settle: Callable[[], object] | None = None
    ) -> None:
        """Starts at zero.

        Args:
            outermost: Section for time outside all others.
            clock: Returns seconds.
            settle: Called at every border, to wait for pending work on a device.
        """
        self._outermost, self._clock, self._settle = outermost, clock, settle
        self._open: list[str] = []
        self._since = 0.0
        self.seconds: dict[str, float] = {}

    @property
    def total(self) -> float:
        """Seconds of all sections."""
        return sum(self.seconds.values())

    @contextmanager
    def running(self) -> Iterator[None]:
        """Counts the time within, for the outermost section unless another is open."""
        with self.section(self._outermost):
            yield

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        """Counts the time within for a section, and pauses the one around it."""
        self._turn()
        self._open.append(name)
        try:
            yield
        finally:
            self._turn()
            self._open.pop()

    @contextmanager
    def wrapped(self, owner: Any, attribute: str, name: str) -> Iterator[None]:
        """Counts the calls of a method for a section while the context is open.

        Args:
            owner: Class, or object, that has the method.
            attribute: Name of the method.
            name: The section.
        """
        original = getattr(owner, attribute)

        @functools.wraps(original)
        def timed(*args: Any, **keywords: Any) -> Any:
            with self.section(name):
                return original(*args, **keywords)

        setattr(owner, attribute, timed)
        try:
            yield
        finally:
            setattr(owner, attribute, original)

    def _turn(self) -> None:
        """Records the time since the last border."""
        if self._settle is not None:
            self._settle()
        now = self._clock()
        if self._open:
            name = self._open[-1]
            self.seconds[name] = self.seconds.get(name, 0.0) + now - self._since
        self._since = now
