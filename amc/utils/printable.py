"""Text that may come from a file, made harmless: terminals, Markdown tables and spreadsheets only show it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

_FORMULAS = ("=", "@", "+", "-", "\t")


def printable(text: str) -> str:
    """Returns a line with blanks in place of control characters: part of it may come from a file."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def markdown_line(cells: Iterable[object]) -> str:
    """Returns a line of a Markdown table, without the line break."""
    return "| " + " | ".join(printable(str(cell)).replace("|", "\\|") for cell in cells) + " |"


def no_formula(cell: Any) -> Any:
    """Returns a cell that a spreadsheet takes as text: names may look like formulas."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in _FORMULAS else cell


def series(words: Sequence[str]) -> str:
    """Joins words as a sentence does: `"a"`, `"a and b"`, `"a, b and c"`."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
