"""The stages that a piece of work is in, one within another, as lines for people who look from elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress

from amc.errors import AmcError
from amc.utils.pace import Pace
from amc.utils.progress import Progress

_SECONDS_BETWEEN = 2.0


class Stages:
    """Keeps which stages there are, and tells them as lines: each as it begins, and then every two seconds."""

    def __init__(self, tell: Callable[[Sequence[str]], object], *, clock: Callable[[], float] = time.monotonic) -> None:
        """Takes who is told.

        Args:
            tell: Takes the lines, the innermost stage last; none once the work is between stages.
            clock: Returns seconds; for tests.
        """
        self._tell, self._clock = tell, clock
        self._lines: list[str] = []
        self._next = 0.0

    @contextmanager
    def entered(self, shown: AbstractContextManager[Progress], title: str, total: int, unit: str) -> Iterator[Progress]:
        """Follows a stage that is shown elsewhere.

        Args:
            shown: The stage there, not entered yet.
            title: What is done.
            total: How many units the stage has.
            unit: The unit, in the plural.
        """
        pace, place = Pace(self._clock), len(self._lines)
        self._lines.append(title)
        self._told()
        try:
            with shown as advance:

                def both(share: float, note: str = "", /) -> None:
                    advance(share, note)
                    left = pace.seconds_left(share)
                    if self._clock() >= self._next:
                        done = round(share * total)
                        self._lines[place] = stage_line(title, done, total, unit, left, note)
                        self._told()

                yield both
        except BaseException:
            with suppress(AmcError):  # the first thing that ends the work is what is told
                self._leave(place)
            raise
        self._leave(place)

    def _leave(self, place: int) -> None:
        del self._lines[place:]
        if not place:
            self._told()

    def _told(self) -> None:
        self._tell(tuple(self._lines))
        self._next = self._clock() + _SECONDS_BETWEEN


def stage_line(title: str, done: int, total: int, unit: str, left: float | None, note: str = "") -> str:
    """Says how far a stage is and, while it is neither at its start nor at its end, how long it will take.

    Args:
        title: What is done.
        done: How many units are.
        total: How many there are.
        unit: The unit, in the plural.
        left: Seconds that it will still take; None where that is not known.
        note: What is told besides.
    """
    still = f", {duration(left)} left" if left is not None and 0 < done < total else ""
    return f"{title}: {done} of {total} {unit}{still}{after_comma(note)}"


def duration(seconds: float) -> str:
    """Formats a duration: `"7.3 s"`, `"2 min 05 s"`, `"1 h 12 min"`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def after_comma(note: str) -> str:
    """Returns a note as the end of a line; nothing for none."""
    return f", {note}" if note else ""
