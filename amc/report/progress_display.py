"""What a person sees while a run works: live bars in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich import progress as bars
from rich.console import Console

from amc.report.bar import StageColumn
from amc.utils.progress import Progress

_SECONDS_BETWEEN_LINES = 5.0


class ProgressDisplay:
    """Shows the stages of a run, one after another."""

    def __init__(
        self, stream: TextIO | None = None, *, live: bool | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Chooses how to show progress.

        Args:
            stream: Where to write; stderr if None, so that stdout holds results alone.
            live: Whether to draw moving bars; if None, where the stream is a terminal.
            clock: Returns seconds; for tests.
        """
        self._stream = sys.stderr if stream is None else stream
        self._live = self._stream.isatty() if live is None else live
        self._clock = clock
        self._console = Console(file=self._stream, force_terminal=self._live, highlight=False, soft_wrap=True)

    def say(self, line: str) -> None:
        """Prints one line."""
        self._console.print(line, markup=False)

    @contextmanager
    def stage(self, title: str, total: int = 100, unit: str = "%") -> Iterator[Progress]:
        """Shows a stage; see `Recorder.stage`."""
        shown = self._bar(title, total, unit) if self._live else self._lines(title, total, unit)
        with shown as advance:
            yield advance

    @contextmanager
    def _bar(self, title: str, total: int, unit: str) -> Iterator[Progress]:
        with bars.Progress(StageColumn(unit), console=self._console) as shown:
            task = shown.add_task(title, total=total, note="")
            yield lambda share, note="", /: shown.update(task, completed=round(share * total), note=note)

    @contextmanager
    def _lines(self, title: str, total: int, unit: str) -> Iterator[Progress]:
        start = last_line = self._clock()
        last = (0, "")

        def advance(share: float, note: str = "", /) -> None:
            nonlocal last, last_line
            done = round(share * total)
            last, now = (done, note), self._clock()
            if now - last_line >= _SECONDS_BETWEEN_LINES and 0 < done < total:
                left = duration((now - start) / done * (total - done))
                self.say(f"{title}: {done} of {total} {unit}, {left} left{_after_comma(note)}")
                last_line = now

        yield advance
        done, note = last
        if not done:  # nothing was left to do
            return
        self.say(f"{title}: {done} of {total} {unit} in {duration(self._clock() - start)}{_after_comma(note)}")


def duration(seconds: float) -> str:
    """Describes a duration: `"7.3 s"`, `"2 min 05 s"`, `"1 h 12 min"`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _after_comma(note: str) -> str:
    return f", {note}" if note else ""
