"""The interface of cost models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class CostTracker(Protocol):
    """The cost of one allocation that changes a decision at a time; owns its widths."""

    @property
    def cost(self) -> int:
        """Cost of the current widths."""

    def cost_with(self, index: int, width: int) -> int:
        """Returns what the cost would be if decision `index` kept `width` units."""

    def set_width(self, index: int, width: int) -> None:
        """Sets decision `index` to keep `width` units."""


class CostModel(Protocol):
    """The cost of a network as a function of the widths that an allocation decides."""

    @property
    def name(self) -> str:
        """What is counted: `"flops"` (one fused multiply-add is one), `"params"`, ..."""

    @property
    def dense(self) -> int:
        """Cost of the dense network."""

    def cost(self, widths: Sequence[int]) -> int:
        """Returns the cost when decision i keeps `widths[i]` units; never falls when a width rises."""

    def track(self, widths: Sequence[int]) -> CostTracker:
        """Returns a tracker that starts from `widths`, for walks that change one decision at a time."""
