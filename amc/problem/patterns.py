"""Rules that users give by name pattern."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from amc.errors import UnknownNameError


def matches(names: Iterable[str], pattern: str) -> bool:
    """Returns whether any name matches a shell-style pattern such as `"layer1.*"` (case counts)."""
    return any(fnmatchcase(name, pattern) for name in names)


def check_patterns(patterns: Iterable[str], names: Iterable[str]) -> None:
    """Checks that every pattern matches something.

    Raises:
        UnknownNameError: If a pattern matches none of the names.
    """
    distinct = set(names)
    for pattern in patterns:
        if not matches(distinct, pattern):
            raise UnknownNameError("layer pattern", pattern, distinct)
