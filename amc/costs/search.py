"""Bisection over what grows with width."""

from __future__ import annotations

from collections.abc import Callable

from amc.costs.decision import Decision


def highest_level(decision: Decision, affordable: Callable[[int], bool]) -> int | None:
    """Returns the level of the largest affordable width, None if even the smallest is not.

    Args:
        decision: Whose allowed widths to search.
        affordable: Tells whether a width can be afforded; once false, false for every larger width.
    """
    if affordable(decision.largest):
        return decision.levels - 1
    low, high = -1, decision.levels - 1
    while high - low > 1:
        middle = (low + high) // 2
        if affordable(decision.width(middle)):
            low = middle
        else:
            high = middle
    return low if low >= 0 else None
