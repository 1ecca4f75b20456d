"""Text that a terminal shows and does not obey, nor a spreadsheet compute: part of it may come from a file."""

from __future__ import annotations

from typing import Any

_FORMULAS = ("=", "@", "+", "-", "\t")


def printable(text: str) -> str:
    """Returns a line with blanks in place of control characters: part of it may come from a file."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def no_formula(cell: Any) -> Any:
    """Returns a cell that a spreadsheet takes as text: names may look like formulas."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in _FORMULAS else cell
