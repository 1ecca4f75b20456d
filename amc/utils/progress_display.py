"""The progress display: live bars in a terminal and in a notebook, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TextIO

from rich import progress as bars
from rich.console import Console, RenderableType

from amc.utils.notebook import NotebookBars, NotebookOutput, in_notebook
from amc.utils.pace import Pace
from amc.utils.printable import printable
from amc.utils.progress import Progress, silent
from amc.utils.progress_bar import Bars, StageColumn
from amc.utils.stages import Stages, after_comma, duration, stage_line

_SECONDS_BEFORE_LINES = 2.0
_SECONDS_BETWEEN_LINES = 5.0


class ProgressDisplay:
    """Shows the stages of a run, one after another or one within another."""

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        live: bool | None = None,
        shows: bool = True,
        only_slow: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Chooses how to show progress.

        Args:
            stream: Where to write; stderr if None, so that stdout holds results alone.
            live: Whether to draw moving bars; if None, where the stream is a terminal, or this process the kernel of a
                notebook and the stream its stderr. There bars and lines share one output of the cell.
            shows: Whether stages are shown; single lines are always printed.
            only_slow: Whether stages that take less than two seconds are left out; within another stage they always
                are.
            clock: Returns seconds; for tests.
        """
        self._stream = sys.stderr if stream is None else stream
        notebook = live is None and self._stream is sys.stderr and in_notebook()
        self._output = NotebookOutput() if notebook else None
        self._live = notebook or (self._stream.isatty() if live is None else live)
        self._shows, self._only_slow, self._clock = shows, only_slow, clock
        self._console = Console(
            file=self._stream, force_terminal=self._live, force_jupyter=False, highlight=False, soft_wrap=True
        )
        self._bars: Bars | None = None
        self._stages: Stages | None = None
        self._depth = 0

    def tell(self, told: Callable[[Sequence[str]], object] | None) -> None:
        """Passes on which stages the work is in, shown or not, to what keeps it for `amc watch`; None ends that."""
        self._stages = None if told is None else Stages(told, clock=self._clock)

    def say(self, line: str) -> None:
        """Prints one line."""
        if self._output is None:
            self._console.print("\n".join(map(printable, line.splitlines())), markup=False)
        else:
            self._output.say(line)

    def show_above(self, shown: RenderableType | None) -> None:
        """Shows something above the bars while there are any, such as a table of what is known; None for nothing.

        Where progress is shown as lines it is left out.
        """
        if self._bars is not None:
            self._bars.above = shown
            self._bars.refresh()

    def stage(self, title: str, total: int = 100, unit: str = "%") -> AbstractContextManager[Progress]:
        """Shows a stage; see `Recorder.stage`. A stage of a single step, which shows no progress, is announced."""
        if not self._shows:
            shown: AbstractContextManager[Progress] = nullcontext(silent)
        else:
            shown = self._bar(title, total, unit) if self._live else self._lines(title, total, unit)
        return shown if self._stages is None else self._stages.entered(shown, title, total, unit)

    @contextmanager
    def _bar(self, title: str, total: int, unit: str) -> Iterator[Progress]:
        if self._bars is not None:  # a terminal has one live display: the stages within a stage share it
            yield from self._task(self._bars, title, total, unit)
            return
        with self._new_bars() as self._bars:
            try:
                yield from self._task(self._bars, title, total, unit)
            finally:
                self._bars = None

    def _new_bars(self) -> Bars:
        if self._output is None:
            return Bars(StageColumn(), console=self._console)
        return NotebookBars(self._output, _SECONDS_BEFORE_LINES if self._only_slow else 0.0, self._clock)

    def _task(self, shown: bars.Progress, title: str, total: int, unit: str) -> Iterator[Progress]:
        task = shown.add_task(title, total=total, note="", unit=unit)
        is_inner = len(shown.task_ids) > 1
        try:
            yield lambda share, note="", /: shown.update(task, completed=round(share * total), note=note)
        finally:
            if is_inner:
                shown.remove_task(task)

    @contextmanager
    def _lines(self, title: str, total: int, unit: str) -> Iterator[Progress]:
        start, pace = self._clock(), Pace(self._clock)
        next_line = start + _SECONDS_BEFORE_LINES
        last = (0, "")
        is_quiet = self._only_slow or self._depth > 0
        if total == 1 and not self._depth:
            self.say(f"{title} ...")

        def advance(share: float, note: str = "", /) -> None:
            nonlocal last, next_line
            done = round(share * total)
            last, now, left = (done, note), self._clock(), pace.seconds_left(share)
            if now >= next_line and 0 < done < total:
                self.say(stage_line(title, done, total, unit, left, note))
                next_line = now + _SECONDS_BETWEEN_LINES

        self._depth += 1
        try:
            yield advance
        finally:
            self._depth -= 1
        done, note = last
        seconds = self._clock() - start
        if not done or (is_quiet and seconds < _SECONDS_BEFORE_LINES):  # little or nothing was left to do
            return
        counts = "done" if total == 1 else f"{done} of {total} {unit}"
        self.say(f"{title}: {counts} in {duration(seconds)}{after_comma(note)}")
