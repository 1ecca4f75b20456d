"""Text that a terminal shows and does not obey."""

from __future__ import annotations


def printable(text: str) -> str:
    """Returns a line with blanks in place of control characters: part of it may come from a file."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
