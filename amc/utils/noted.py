"""Warnings that are kept beside being shown, for a report."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def noting_warnings() -> Iterator[list[str]]:
    """Collects the texts of the runtime warnings given meanwhile; all warnings are shown as ever, at the end."""
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")  # for the report; whether one is shown is decided below
        yield notes
    for found in caught:
        if issubclass(found.category, RuntimeWarning) and str(found.message) not in notes:
            notes.append(str(found.message))
        warnings.warn_explicit(found.message, found.category, found.filename, found.lineno)
