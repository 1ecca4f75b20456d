"""Costs as exact functions of widths.

Every axis of every tensor in a network has a length that is an affine function of the widths that an allocation
decides. What an operator costs is a constant times the lengths of a few axes, so the cost of a network is a short
sum of such products: exact to the integer, and cheap to evaluate for any allocation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod


@dataclass(frozen=True)
class Extent:
    """The length of an axis: `constant + sum(count * widths[decision])`.

    Attributes:
        constant: Positions that are never removed.
        counts: Pairs `(decision, positions per channel)`, by rising decision index; each count is at least 1.
    """

    constant: int
    counts: tuple[tuple[int, int], ...] = ()

    def length(self, widths: Sequence[int]) -> int:
        """Returns the length of the axis when decision i keeps `widths[i]` channels."""
        return self.constant + sum(count * widths[decision] for decision, count in self.counts)


@dataclass(frozen=True)
class CostTerm:
    """`coefficient` times the product of the lengths of some axes.

    Attributes:
        coefficient: The cost when every factor is one.
        factors: The axes that the cost is proportional to; at most three in practice.
    """

    coefficient: int
    factors: tuple[Extent, ...] = ()

    def cost(self, widths: Sequence[int]) -> int:
        """Returns the cost of the term when decision i keeps `widths[i]` channels."""
        return self.coefficient * prod(factor.length(widths) for factor in self.factors)

    def decisions(self) -> frozenset[int]:
        """Returns the indices of the decisions that the cost depends on."""
        return frozenset(decision for factor in self.factors for decision, _ in factor.counts)
