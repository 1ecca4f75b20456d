"""The bars of stages: one line for each that runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.progress import Progress, ProgressColumn, Task, TimeElapsedColumn, TimeRemainingColumn
from rich.progress_bar import ProgressBar
from rich.segment import Segment
from rich.text import Text

_WIDEST, _NARROWEST = 24, 6


class Bars(Progress):
    """Moving bars, with something above them."""

    above: RenderableType | None = None

    def get_renderables(self) -> Iterable[RenderableType]:
        """Yields what is drawn."""
        if self.above is not None:
            yield self.above
        yield from super().get_renderables()


class StageColumn(ProgressColumn):
    """Shows all of a stage: title, bar, counts, time and note."""

    def __init__(self) -> None:
        """Sets the columns up; a task's fields are its `unit` and its `note`."""
        super().__init__()
        self._elapsed, self._remaining = TimeElapsedColumn(), TimeRemainingColumn()

    def render(self, task: Task) -> StageLine:
        """Returns the line as it is now."""
        total = str(int(task.total or 0))
        elapsed, remaining = self._elapsed.render(task).plain, self._remaining.render(task).plain
        figures = f"{int(task.completed):>{len(total)}}/{total} {task.fields['unit']} {elapsed} left: {remaining}"
        bar = ProgressBar(total=task.total, completed=task.completed)
        return StageLine(task.description, bar, figures, str(task.fields["note"]))


@dataclass
class StageLine:
    """A line that fits any terminal: the bar shrinks first, then the note; counts and time stay.

    Attributes:
        title: What is done.
        bar: How far it is.
        figures: Counts and time; cut only where they alone are wider than the terminal.
        note: Any further text.
    """

    title: str
    bar: ProgressBar
    figures: str
    note: str

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """Takes the whole width."""
        return Measurement(options.max_width, options.max_width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yields the parts, each as wide as there is room."""
        room = options.max_width - cell_len(self.figures)
        title = _cut(self.title, room - 1)
        room -= cell_len(title) + 1
        width = min(_WIDEST, max(_NARROWEST, room - cell_len(self.note) - 2))
        if title:
            yield _text(f"{title} ")
        if room > width:
            self.bar.width = width
            room -= width + 1
            # Without colours it is as long as what is done.
            yield from Segment.adjust_line_length(list(console.render(self.bar, options)), width)
            yield _text(" ")
        note = _cut(self.note, room - 1)
        yield _text(_cut(self.figures, options.max_width) + (f" {note}" if note else ""))


def _text(text: str) -> Text:
    """Returns a text for use beside others: neither padded nor ended by a line break."""
    return Text(text, end="", justify="default", no_wrap=True)


def _cut(text: str, width: int) -> str:
    """Returns as much of a text as fits, with dots where some is left out."""
    if cell_len(text) <= width:
        return text
    return f"{set_cell_size(text, width - 1)}…" if width > 1 else ""
