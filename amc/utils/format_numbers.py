"""The numbers that files of `amc` give their format: it rises when older versions could not read what is written."""

from __future__ import annotations


def other_version(held: object, known: int, *, older: str) -> str | None:
    """Says which version wrote a file of another format, and what to do; None if that is not a number, or the known.

    Args:
        held: What the file gives as its format.
        known: The format that this version reads.
        older: What to do about a file of an older one.
    """
    if not isinstance(held, int) or isinstance(held, bool) or held == known:
        return None
    age, remedy = ("a newer", "update amc") if held > known else ("an older", older)
    return f"must be of format {known}, and is of {str(held)[:20]}: written by {age} amc; {remedy}"
