"""Progress of a piece of work: the one interface through which all parts report it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import count
from typing import Protocol


class Progress(Protocol):
    """Receives the share of a piece of work that is done, as it grows."""

    def __call__(self, share: float, note: str = "", /) -> object:
        """Takes the share, 0 to 1, and a short note such as "loss 0.31"."""


class Shows(Protocol):
    """Shows stages and lines: a display, or what listens to a run."""

    def stage(self, title: str, total: int = 100, unit: str = "%") -> AbstractContextManager[Progress]:
        """Announces a stage; its context takes the share that is done."""

    def say(self, line: str) -> None:
        """Shows a line."""


def silent(share: float, note: str = "", /) -> None:
    """Does nothing: for callers without a display."""


def spanning(advance: Progress, first: float, last: float) -> Progress:
    """Returns what takes the share of a part that leads from the share `first` of the whole to `last`."""
    return lambda share, note="", /: advance(first + share * (last - first), note)


def steps_of(total: int, advance: Progress) -> Callable[[], None]:
    """Returns a function to call after each of `total` steps; it passes on the share that is done, 0 to 1."""
    steps = count(1)

    def step() -> None:
        advance(min(1.0, next(steps) / total))

    return step
