"""One decision of an allocation and the widths that it may take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import ceil, floor

from amc.errors import ConfigurationError


@dataclass(frozen=True)
class Decision:
    """One action: how many units of a channel group or of a layer's weight are kept.

    The allowed widths are the multiples of `step` from `min_width` to `max_width`, and `size` itself where
    `max_width` permits it. They are numbered by `level`, from 0 (the smallest) to `levels - 1` (the largest).

    Attributes:
        name: Name of the channel group, or of the layer.
        size: Units of the dense network: channels, or weights.
        min_width: Fewest units to keep.
        max_width: Most units to keep; None for `size`.
        step: Kept units are a multiple of this, unless all are kept.
        group: Index in `ModelStructure.groups` (filter pruning) or `ModelStructure.layers` (weight pruning).
        may_vanish: Whether none may be kept: a residual block of one unit, which stays or is dropped.

    Raises:
        ConfigurationError: If no width is allowed.
    """

    name: str
    size: int
    min_width: int = 1
    max_width: int | None = None
    step: int = 1
    group: int = -1
    may_vanish: bool = False

    def __post_init__(self) -> None:
        if self.step < 1:
            raise ConfigurationError(f"widths are rounded to multiples of a number from 1 up, not {self.step}")
        if self.levels < 1:
            raise ConfigurationError(
                f"{self.name}: no multiple of {self.step} lies between {self._lowest} and {self._highest} "
                f"of its {self.size} units; widen the bounds or round to a smaller number"
            )

    @property
    def _lowest(self) -> int:
        return max(self.least, self.min_width)

    @property
    def least(self) -> int:
        """The fewest units that can be kept under any bounds."""
        return 0 if self.may_vanish else 1

    @property
    def _highest(self) -> int:
        return self.size if self.max_width is None else min(self.max_width, self.size)

    @cached_property
    def _first(self) -> int:
        """The smallest multiple of the step within the bounds, in steps."""
        return -(-self._lowest // self.step)

    @cached_property
    def _multiples(self) -> int:
        return max(0, self._highest // self.step - self._first + 1)

    @cached_property
    def levels(self) -> int:
        """How many widths are allowed."""
        own_level = self._highest == self.size >= self._lowest and (self.size % self.step or not self._multiples)
        return self._multiples + bool(own_level)

    @cached_property
    def smallest(self) -> int:
        """The smallest allowed width."""
        return self.width(0)

    @cached_property
    def largest(self) -> int:
        """The largest allowed width."""
        return self.width(self.levels - 1)

    def width(self, level: int) -> int:
        """Returns the allowed width number `level`."""
        return (self._first + level) * self.step if level < self._multiples else self.size

    def level(self, width: int) -> int:
        """Returns the number of an allowed width.

        Raises:
            ValueError: If the width is not allowed.
        """
        level = self._multiples if width == self.size and self.size % self.step else width // self.step - self._first
        if not 0 <= level < self.levels or self.width(level) != width:
            raise ValueError(f"{self.name}: {width} of {self.size} is not an allowed width")
        return level

    def nearest(self, target: float) -> int:
        """Returns the allowed width nearest to `target`, the larger of two that are equally near."""
        if target >= self.largest:
            return self.largest
        if target <= self.smallest:
            return self.smallest
        below = min(floor(target / self.step) - self._first, self._multiples - 1)
        lower, upper = self.width(below), self.width(below + 1)
        return upper if upper - target <= target - lower else lower


def bounded_decision(
    name: str, size: int, *, min_keep_ratio: float, max_keep_ratio: float, step: int, group: int
) -> Decision:
    """Builds a decision from the fractions of its units to keep at least and at most.

    Raises:
        ConfigurationError: If the fractions are not ordered in [0, 1], or no width is allowed between them.
    """
    if not 0 <= min_keep_ratio <= max_keep_ratio <= 1 or max_keep_ratio == 0:
        raise ConfigurationError(
            f"{name}: the ratios to keep must satisfy 0 <= min <= max <= 1 and max > 0, "
            f"not min {min_keep_ratio:g}, max {max_keep_ratio:g}"
        )
    # Rounded first: 10 * (1 - 0.9) is 0.9999999999999998, and one unit is meant.
    lowest, highest = ceil(round(size * min_keep_ratio, 6)), floor(round(size * max_keep_ratio, 6))
    return Decision(name, size, max(1, lowest), max(1, lowest, highest), step, group)


def highest_level(decision: Decision, affordable: Callable[[int], bool]) -> int | None:
    """Returns the level of the largest affordable width, None if even the smallest is not.

    Args:
        decision: Whose allowed widths to search.
        affordable: Whether a width can be afforded; once false, it stays false for every larger width.
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
