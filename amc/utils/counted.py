"""Numbers with their nouns, in words for people."""

from __future__ import annotations


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """Returns a number with its noun: `"1 round"`, `"2,000 images"`.

    Args:
        count: The number.
        noun: What is counted, in the singular.
        plural: The same for other numbers than one; the noun with an s if None.
    """
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"
