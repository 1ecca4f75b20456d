"""Warnings that are collected for a report as well as shown."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def noting_warnings() -> Iterator[list[str]]:
    """Collects the texts of runtime warnings within the context; all warnings are still shown, at the end."""
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")  # for the report; whether one is shown is decided below
        yield notes
    for found in caught:
        if issubclass(found.category, RuntimeWarning) and str(found.message) not in notes:
            notes.append(str(found.message))
        warnings.warn_explicit(found.message, found.category, found.filename, found.lineno)
