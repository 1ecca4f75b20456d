"""The colours of figures, for light and dark pages and for paper."""

from __future__ import annotations

import re
from dataclasses import dataclass

_LIGHT = {
    "ink": "#1f2328",
    "muted": "#59636e",
    "grid": "#d8dee4",
    "page": "#ffffff",
    "series-1": "#1f6feb",
    "series-2": "#bc4c00",
    "series-3": "#1a7f37",
    "series-4": "#bf3989",
    "series-5": "#6639ba",
    "series-6": "#0f7a83",
    "series-7": "#9a6700",
    "series-8": "#57606a",
}
_DARK = {
    "ink": "#e6edf3",
    "muted": "#9ba5b0",
    "grid": "#353c45",
    "page": "#14181d",
    "series-1": "#58a6ff",
    "series-2": "#f0883e",
    "series-3": "#3fb950",
    "series-4": "#f778ba",
    "series-5": "#b392f0",
    "series-6": "#39c5cf",
    "series-7": "#d4a72c",
    "series-8": "#a7b0ba",
}
_STAND_INS = {name: f"#0b{index:02x}fe" for index, name in enumerate(_LIGHT, start=1)}
"""A stand-in colour for each name: it is drawn, and later replaced by a variable of the page's style."""
_SERIES = 8


@dataclass(frozen=True)
class Palette:
    """The colours that a figure is drawn in.

    Attributes:
        ink: Text.
        muted: Axes, and what is less important.
        grid: Grid lines.
        page: The background.
        series: The series, in order.
        serves_page: Whether the colours stand for variables of a page's style; see `with_variables`.
    """

    ink: str
    muted: str
    grid: str
    page: str
    series: tuple[str, ...]
    serves_page: bool = False

    @staticmethod
    def paper() -> Palette:
        """Returns the colours for paper and for a white page."""
        return _palette(_LIGHT)

    @staticmethod
    def of_page() -> Palette:
        """Returns stand-ins for the colours of a page's style."""
        return _palette(_STAND_INS, serves_page=True)

    def colour(self, index: int) -> str:
        """Returns the colour of a series; after the last one they repeat."""
        return self.series[index % len(self.series)]


def _palette(colours: dict[str, str], *, serves_page: bool = False) -> Palette:
    series = tuple(colours[f"series-{number}"] for number in range(1, _SERIES + 1))
    return Palette(colours["ink"], colours["muted"], colours["grid"], colours["page"], series, serves_page)


def with_variables(svg: str) -> str:
    """Replaces the stand-ins of `Palette.of_page` by variables of the page's style (`var(--ink)`)."""
    names = {colour: name for name, colour in _STAND_INS.items()}
    return re.sub("|".join(names), lambda found: f"var(--{names[found[0]]})", svg)


def style_variables(*, dark: bool) -> str:
    """Returns the colours as declarations of CSS."""
    return " ".join(f"--{name}: {colour};" for name, colour in (_DARK if dark else _LIGHT).items())
