"""Deciding one width after another under a budget."""

from __future__ import annotations

from amc.costs.cost_model import CostModel
from amc.problem.decision import highest_level
from amc.problem.space import DecisionSpace


class Walk:
    """One pass over all decisions, in order.

    Two costs are tracked as the widths are chosen: one with all open decisions at their smallest width, one with them
    at their largest. A step costs time in proportion to the terms that its decision touches.
    """

    def __init__(self, space: DecisionSpace, cost_model: CostModel, limit: int | None) -> None:
        """Starts at the first decision.

        Args:
            space: The decisions.
            cost_model: What the widths cost.
            limit: Largest cost, or None for no bound.
        """
        self._decisions, self._limit = space.decisions, limit
        self._dense = cost_model.dense
        self._chosen: list[int] = []
        self._small = cost_model.track(space.min_widths)
        self._large = cost_model.track(space.max_widths)

    @property
    def index(self) -> int:
        """Index of the open decision; the number of decisions once all are made."""
        return len(self._chosen)

    @property
    def done(self) -> bool:
        """Whether all decisions are made."""
        return self.index == len(self._decisions)

    @property
    def widths(self) -> tuple[int, ...]:
        """The widths chosen so far."""
        return tuple(self._chosen)

    @property
    def reduced(self) -> int:
        """What the choices so far save of the dense cost, with all open decisions at their largest width."""
        return self._dense - self._large.cost

    @property
    def removable_later(self) -> int:
        """What the decisions after the open one could still save, with the open one at its largest width."""
        if self.done:
            return 0
        largest = self._decisions[self.index].largest
        return self._large.cost - self._small.cost_with(self.index, largest)

    @property
    def open_costs(self) -> tuple[int, int]:
        """What the choices so far cost with all open decisions at their smallest, and at their largest width."""
        return self._small.cost, self._large.cost

    def bounds(self) -> tuple[int, int]:
        """Returns the smallest and largest width allowed for the open decision.

        The largest is the one with which the later decisions, at their smallest, still meet the limit. The smallest is
        the largest width with which even the largest later widths do not exceed the limit, so that no budget is wasted;
        the decision's smallest width if there is none.

        Raises:
            ValueError: If the choices so far cannot meet the budget.
        """
        index, limit = self.index, self._limit
        decision = self._decisions[index]
        if limit is None:
            return decision.smallest, decision.largest
        high = highest_level(decision, lambda width: self._small.cost_with(index, width) <= limit)
        if high is None:
            raise ValueError(f"the widths {self._chosen} leave no way to meet the budget of {limit}")
        low = highest_level(decision, lambda width: self._large.cost_with(index, width) <= limit)
        return decision.width(low or 0), decision.width(high)

    def choose(self, width: int) -> None:
        """Decides the open decision.

        Args:
            width: One of its allowed widths. It may lie outside the bounds: a caller that exceeds the budget must bring
                the allocation back under it in the end (`PruningProblem.project`).

        Raises:
            ValueError: If the width is not allowed.
        """
        index = self.index
        self._decisions[index].level(width)
        self._small.set_width(index, width)
        self._large.set_width(index, width)
        self._chosen.append(width)
