"""Rules that users give by name pattern."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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


def keep_bounds(
    names: Sequence[str], bounds: Mapping[str, tuple[float, float]], default: tuple[float, float]
) -> tuple[float, float]:
    """Returns the smallest and largest ratio to keep.

    Args:
        names: Names of the group and of its writers.
        bounds: Smallest and largest PRUNING ratio by pattern; the first pattern that matches counts.
        default: Smallest and largest ratio to KEEP where no pattern matches.
    """
    for pattern, (min_ratio, max_ratio) in bounds.items():
        if matches(names, pattern):
            return 1 - max_ratio, 1 - min_ratio
    return default
