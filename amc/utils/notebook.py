"""Progress in a Jupyter notebook: one output of the cell, which is redrawn in place."""

from __future__ import annotations

import contextvars
import io
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.text import Text

from amc.utils.progress_bar import Bars, StageColumn

_COLUMNS = 100
_SECONDS_BETWEEN_DRAWINGS = 0.25
_HTML = '<pre style="white-space:pre;overflow-x:auto;line-height:normal;font-family:monospace">{}</pre>'


def in_notebook() -> bool:
    """Returns whether this process is a Jupyter kernel, whose cells show what is displayed and can redraw it."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


class NotebookOutput:
    """One output of a cell: what is finished, in order, and below it what changes.

    It is HTML with the same as plain text, so that a saved notebook shows the last state without a kernel. The first
    drawing creates the output in the cell that runs; the later ones replace its content. No widgets are needed.
    """

    def __init__(self) -> None:
        """Displays nothing yet."""
        self._html, self._plain = "", ""
        self._running: Bars | None = None
        self._handle: Any = None
        self._drawn: dict[str, str] | None = None
        self._lock = threading.RLock()

    def say(self, line: str) -> None:
        """Adds a line, which stays."""
        self.keep(Text(line))
        self.draw()

    def keep(self, shown: RenderableType) -> None:
        """Adds something to what is finished; it is seen with the next drawing."""
        html, plain = _rendered(shown)
        with self._lock:
            self._html += html
            self._plain += plain

    def show(self, running: Bars | None) -> None:
        """Sets what changes; None for nothing."""
        with self._lock:
            self._running = running

    def draw(self) -> None:
        """Displays the state as it is now, if it differs from the one that is seen."""
        with self._lock:
            html, plain = ("", "") if self._running is None else _rendered(self._running.get_renderable())
            content = {"text/plain": self._plain + plain, "text/html": _HTML.format(self._html + html)}
            if content == self._drawn or not content["text/plain"]:
                return
            self._drawn = content
            if self._handle is None:
                from IPython.display import display

                self._handle = display(content, raw=True, display_id=True)
            else:
                self._handle.update(content, raw=True)


class NotebookBars(Bars):
    """The bars of a stage and of the stages within it, drawn four times a second."""

    def __init__(
        self,
        output: NotebookOutput,
        seconds_before_drawing: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Takes where to draw.

        Args:
            output: The output of the cell.
            seconds_before_drawing: A stage that takes less time is left out.
            clock: Returns seconds; for tests.
        """
        super().__init__(StageColumn(), console=_console(), auto_refresh=False, get_time=clock)
        self._output, self._seconds_before_drawing = output, seconds_before_drawing
        self._ended = threading.Event()
        # Within the context of the cell: by it Jupyter knows which cell an output belongs to.
        context = contextvars.copy_context()
        self._drawing = threading.Thread(target=context.run, args=(self._keep_drawing,), daemon=True)

    def __enter__(self) -> NotebookBars:
        """Starts to draw."""
        self._drawing.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Draws the last state, which stays if there was progress; a stage with nothing left to do is left out."""
        self._ended.set()
        self._drawing.join()
        self._output.show(None)
        if self._is_worth_drawing() and any(task.completed for task in self.tasks):
            self._output.keep(Group(*self.get_renderables()))
        self._output.draw()

    def refresh(self) -> None:
        """Draws the state as it is now."""
        if self._is_worth_drawing():
            self._output.show(self)
            self._output.draw()

    def _is_worth_drawing(self) -> bool:
        return any((task.elapsed or 0.0) >= self._seconds_before_drawing for task in self.tasks)

    def _keep_drawing(self) -> None:
        while not self._ended.wait(_SECONDS_BETWEEN_DRAWINGS):
            self.refresh()


def _console() -> Console:
    return Console(
        file=io.StringIO(),
        record=True,
        width=_COLUMNS,
        force_terminal=True,
        force_jupyter=False,
        color_system="truecolor",
        legacy_windows=False,
        highlight=False,
        soft_wrap=True,
    )


def _rendered(shown: RenderableType) -> tuple[str, str]:
    """Returns something as the inside of an HTML `pre` element, and as plain text."""
    console = _console()
    console.print(shown)
    html = console.export_html(code_format="{code}", inline_styles=True, clear=False)
    return html, console.export_text()
