"""Several bounded costs as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from amc.costs.cost_model import CostModel, CostTracker


class TightestCost:
    """The cost whose bound is nearest, so that meeting one limit meets all.

    Every cost is multiplied by the limits of the others, which brings all to one scale without rounding: the largest
    of them is at most the product of all limits exactly when every cost is within its own limit. Like its parts it
    never falls when a width rises.

    Attributes:
        name: The names of the metrics, joined by `"+"`.
        dense: Cost of the dense network.
        limit: What the cost may be at most.
    """

    def __init__(self, models: Mapping[str, CostModel], limits: Mapping[str, int]) -> None:
        """Scales the costs.

        Args:
            models: Cost models by metric; those without a limit are left out.
            limits: The largest cost of each bounded metric, above 0.
        """
        self.name = "+".join(limits)
        self.limit = prod(limits.values())
        self._parts = [(self.limit // limit, models[metric]) for metric, limit in limits.items()]
        self.dense = max(scale * model.dense for scale, model in self._parts)

    def cost(self, widths: Sequence[int]) -> int:
        """Returns the largest of the scaled costs when decision i keeps `widths[i]` units."""
        return max(scale * model.cost(widths) for scale, model in self._parts)

    def track(self, widths: Sequence[int]) -> TightestTracker:
        """Returns a tracker that starts from `widths`."""
        return TightestTracker([(scale, model.track(widths)) for scale, model in self._parts])


class TightestTracker:
    """The largest of several scaled costs while one decision changes at a time; see `TightestCost.track`."""

    def __init__(self, parts: Sequence[tuple[int, CostTracker]]) -> None:
        """Takes the trackers of the single costs, each with its scale."""
        self._parts = parts

    @property
    def cost(self) -> int:
        """Cost of the current widths."""
        return max(scale * tracker.cost for scale, tracker in self._parts)

    def cost_with(self, index: int, width: int) -> int:
        """Returns what the cost would be if decision `index` kept `width` units."""
        return max(scale * tracker.cost_with(index, width) for scale, tracker in self._parts)

    def set_width(self, index: int, width: int) -> None:
        """Sets decision `index` to keep `width` units."""
        for _, tracker in self._parts:
            tracker.set_width(index, width)
