"""A self-contained HTML page: works offline, without scripts, light and dark, on any screen and on paper."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from amc.report.figures import Figure
from amc.report.figures.figure import as_csv
from amc.report.figures.palette import style_variables
from amc.utils.counted import counted
from amc.utils.durable_files import write_text

_TEMPLATE = "page.html.j2"


@dataclass(frozen=True)
class Table:
    """A table of a page.

    Attributes:
        columns: Headings.
        rows: Cells as text; the first cell names the row.
        caption: What the figures are.
        name: Name of its CSV file.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    name: str = "table"

    def as_csv(self) -> str:
        """Returns the cells, with a line of headings."""
        return as_csv(self.columns, self.rows)


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
        title: Its heading.
        paragraphs: Its text.
        tables: Its tables.
        figures: Its figures.
        commands: Command lines.
        listing: A long text that is folded, such as a configuration; empty for none.
        listing_title: What the listing is.
    """

    title: str
    paragraphs: Sequence[str] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
    commands: Sequence[str] = ()
    listing: str = ""
    listing_title: str = ""


@dataclass(frozen=True)
class Page:
    """A whole page.

    Attributes:
        title: Its title.
        lead: One or two sentences with the result.
        sections: Its parts.
    """

    title: str
    lead: str
    sections: Sequence[Section] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        """Numbers figures that share a name, since each is a file and an anchor."""
        seen: Counter[str] = Counter()
        sections = []
        for section in self.sections:
            figures = []
            for figure in section.figures:
                seen[figure.name] += 1
                number = seen[figure.name]
                figures.append(figure if number == 1 else replace(figure, name=f"{figure.name}-{number}"))
            sections.append(replace(section, figures=figures))
        object.__setattr__(self, "sections", tuple(sections))

    @property
    def figures(self) -> list[Figure]:
        """All its figures."""
        return [figure for section in self.sections for figure in section.figures]

    def as_html(self) -> str:
        """Returns the page; text from files is escaped everywhere."""
        import jinja2

        environment = jinja2.Environment(
            loader=jinja2.PackageLoader("amc.report", "templates"),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=jinja2.StrictUndefined,
        )
        drawn: dict[str, Any] = {"data_uri": _data_uri, "svg": _drawn, "light": style_variables(dark=False)}
        return environment.get_template(_TEMPLATE).render(page=self, dark=style_variables(dark=True), **drawn)

    def write(self, file: Path) -> None:
        """Writes the page.

        Raises:
            OSError: If it cannot be written.
        """
        write_text(file, self.as_html())


def joined(pages: Sequence[Page], names: Sequence[str]) -> Page:
    """Joins several pages into one, an overview first; a single page stays as it is.

    Args:
        pages: The pages.
        names: What each is about, such as its folder.
    """
    if len(pages) == 1:
        return pages[0]
    overview = Table(
        columns=("page", "what came out"),
        rows=tuple(zip(names, (page.lead for page in pages), strict=True)),
        caption="Runs are comparable where data, network and budget are the same.",
        name="overview",
    )
    sections = [Section("Overview", tables=[overview])]
    for name, page in zip(names, pages, strict=True):
        sections += [replace(section, title=f"{name}: {section.title}") for section in page.sections]
    return Page(f"{counted(len(pages), 'report')}", "All in one page, an overview first.", sections)


def _drawn(figure: Figure) -> Any:
    """Returns a figure as an element; matplotlib has escaped its text."""
    from markupsafe import Markup

    return Markup(figure.inline_svg())


def _data_uri(text: str) -> str:
    """Returns a text as a data URI, to be saved as a file."""
    return "data:text/csv;base64," + base64.b64encode(text.encode("utf-8")).decode("ascii")
