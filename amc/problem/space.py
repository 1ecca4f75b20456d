"""The widths that an allocation may take, regardless of their cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from amc.errors import ConfigurationError, UnknownNameError
from amc.problem.decision import Decision
from amc.structure import KINDS, Allocation


@dataclass(frozen=True)
class DecisionSpace:
    """All decisions of an allocation, in order, and the widths that they may take.

    A width is how many units a decision keeps.

    Attributes:
        decisions: The decisions, in the order of execution.
        kind: `"filter"` (a unit is a channel) or `"weight"` (a unit is a weight).
    """

    decisions: tuple[Decision, ...]
    kind: str

    def __post_init__(self) -> None:
        assert self.kind in KINDS, self.kind

    @cached_property
    def dense_widths(self) -> tuple[int, ...]:
        """Units of every decision in the dense network."""
        return tuple(decision.size for decision in self.decisions)

    @cached_property
    def min_widths(self) -> tuple[int, ...]:
        """The smallest allowed width of every decision."""
        return tuple(decision.smallest for decision in self.decisions)

    @cached_property
    def max_widths(self) -> tuple[int, ...]:
        """The largest allowed width of every decision; the dense one unless the decision is bounded."""
        return tuple(decision.largest for decision in self.decisions)

    def keep_ratios(self, widths: Sequence[int]) -> tuple[float, ...]:
        """Returns widths as shares of the dense ones, one a decision."""
        return tuple(width / size for width, size in zip(widths, self.dense_widths, strict=True))

    def round_width(self, index: int, pruning_ratio: float) -> int:
        """Returns the allowed width nearest to what a pruning ratio leaves, the larger of two equally near."""
        return self.decisions[index].nearest(self.decisions[index].size * (1.0 - pruning_ratio))

    def allocation(self, widths: Sequence[int]) -> Allocation:
        """Names the widths."""
        names = (decision.name for decision in self.decisions)
        return Allocation(self.kind, dict(zip(names, (int(width) for width in widths), strict=True)))

    def widths(self, allocation: Allocation) -> tuple[int, ...]:
        """Returns the widths of an allocation in the order of the decisions; unnamed ones stay dense.

        Raises:
            ConfigurationError: If it is of the other kind, or keeps fewer than one (of a block: none) or more than all
                units.
            UnknownNameError: If it names something that is not a decision of this problem.
        """
        if allocation.kind != self.kind:
            raise ConfigurationError(f"the allocation must be of kind {self.kind!r}, not {allocation.kind!r}")
        known = {decision.name: decision for decision in self.decisions}
        for name, width in allocation.widths.items():
            if name not in known:
                raise UnknownNameError("decision", name, known)
            low, high = known[name].least, known[name].size
            if not low <= width <= high:
                raise ConfigurationError(f"{name}: kept units must be from {low} to {high}, not {width}")
        return tuple(allocation.widths.get(name, decision.size) for name, decision in known.items())
