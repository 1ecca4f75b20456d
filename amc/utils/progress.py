"""Tells how far a piece of work has come."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

Progress = Callable[[float], object]
"""Takes the share of a piece of work that is done, 0 to 1, as it grows."""


def silent(share: float) -> None:
    """Tells nobody."""


def steps_of(total: int, advance: Progress) -> Callable[[], None]:
    """Returns a function to call after each of `total` steps; it passes on the share that is done, 0 to 1."""
    steps = count(1)

    def step() -> None:
        advance(min(1.0, next(steps) / total))

    return step
