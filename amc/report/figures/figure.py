"""A figure: what it shows, how it is drawn, and the numbers behind it."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amc.errors import UnknownNameError
from amc.report.figures.palette import Palette, with_variables
from amc.utils.durable_files import replacing, write_text
from amc.utils.printable import no_formula

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

FORMATS = ("svg", "png", "pdf", "csv")
"""The formats that figures can be written in."""
_DPI = 160
_WIDTH, _HEIGHT = 5.6, 3.8
"""Inches. A page shows an inch as 72 points, a phone as about 55, so that text of 11 points stays readable."""


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        name: Name of its files, such as `"search"`.
        title: What it shows, in a few words.
        caption: What it shows, and how its numbers were obtained.
        draw: Draws it on an empty canvas, in the colours of a palette.
        columns: Headings of the numbers behind it.
        rows: These numbers.
        height: Height of the canvas in inches; the width is fixed.
    """

    name: str
    title: str
    caption: str
    draw: Callable[[Canvas, Palette], None]
    columns: tuple[str, ...]
    rows: tuple[Sequence[Any], ...]
    height: float = _HEIGHT

    def inline_svg(self) -> str:
        """Returns the figure as an element of a page, in the colours of the page's style.

        Its identifiers contain its name, so that a page can hold several figures.
        """
        svg = with_variables(self._drawn("svg", Palette.of_page()).decode("utf-8"))
        svg = svg[svg.index("<svg") :]
        svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
        svg = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{self.name}-", svg)
        svg = re.sub(r"(?<=px )'DejaVu Sans'[^;\"<>]*", "inherit", svg).replace("font-family: inherit", "")
        svg = re.sub(r"font: ([0-9.]+)px inherit", r"font-size: \1px", svg)
        box = re.search(r'width="([0-9.]+)pt" height="([0-9.]+)pt"', svg)
        size = f'{box[1]}pt" height="{box[2]}pt"' if box else ""
        return svg.replace(f'width="{size}', f'role="img" aria-label="{self.title}"', 1)

    def as_csv(self) -> str:
        """Returns the numbers behind the figure, with a line of headings."""
        return as_csv(self.columns, self.rows)

    def write(self, folder: Path, kind: str) -> Path:
        """Writes the figure into a folder that exists.

        Args:
            folder: The folder.
            kind: One of `FORMATS`.

        Returns:
            The file.

        Raises:
            UnknownNameError: If there is no such format.
            OSError: If the file cannot be written.
        """
        if kind not in FORMATS:
            raise UnknownNameError("format", kind, FORMATS)
        file = folder / f"{self.name}.{kind}"
        if kind == "csv":
            write_text(file, self.as_csv())
        else:
            with replacing(file) as partial:
                partial.write_bytes(self._drawn(kind, Palette.paper()))
        return file

    def _drawn(self, kind: str, palette: Palette) -> bytes:
        """Draws the figure; the same numbers give the same bytes."""
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure as Canvas

        with matplotlib.rc_context(_style(palette, self.name)):
            canvas = Canvas(figsize=(_WIDTH, self.height), layout="constrained")
            FigureCanvasAgg(canvas)
            self.draw(canvas, palette)
            out = io.BytesIO()
            dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
            canvas.savefig(out, format=kind, dpi=_DPI, metadata=dates.get(kind), transparent=palette.serves_page)
        return out.getvalue()


def as_csv(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Returns rows as CSV, with a line of headings; a spreadsheet takes no name for a formula."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(map(no_formula, columns))
    writer.writerows(map(no_formula, row) for row in rows)
    return out.getvalue()


def write_figures(figures: Iterable[Figure], folder: Path, kinds: Sequence[str]) -> list[Path]:
    """Writes figures into a folder, which is created if needed; see `Figure.write`.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return [figure.write(folder, kind) for figure in figures for kind in kinds]


def _style(palette: Palette, name: str) -> Any:
    """Returns matplotlib's settings for a figure."""
    return {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "text.parse_math": False,  # names of layers are not formulas
        "font.family": "DejaVu Sans",
        "font.size": 11,
        "axes.titlesize": 12,
        "figure.facecolor": palette.page,
        "axes.facecolor": "none",
        "savefig.facecolor": palette.page,
        "text.color": palette.ink,
        "axes.labelcolor": palette.ink,
        "axes.edgecolor": palette.muted,
        "xtick.color": palette.muted,
        "ytick.color": palette.muted,
        "xtick.labelcolor": palette.ink,
        "ytick.labelcolor": palette.ink,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": palette.grid,
        "grid.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        "legend.fontsize": 10,
        "lines.linewidth": 2,
        "lines.markersize": 5,
    }
