"""A pruning problem: the decisions, what they cost, and the budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from amc.costs import projection
from amc.costs.budget import Budget, feasible_share
from amc.costs.cost_model import CostModel
from amc.costs.decision import Decision
from amc.costs.search import highest_level
from amc.costs.walk import Walk
from amc.errors import BudgetError, ConfigurationError, ModelError, UnknownNameError
from amc.structure import Allocation, LayerSpec


@dataclass(frozen=True)
class PruningProblem:
    """What an agent has to decide, and the rules that every agent works under.

    A width is how many units a decision keeps. All methods on the budget are exact on rounded widths.

    Attributes:
        decisions: The decisions, in the order of execution.
        costs: Cost models by metric; always `"flops"` and `"params"`.
        layers: The layer that the observation describes, one per decision.
        budget: What the pruned network may cost, or None for no bound.
        kind: `"filter"` (a unit is a channel) or `"weight"` (a unit is a weight).

    Raises:
        BudgetError: If even the smallest widths exceed the budget, or the budget is above the dense cost.
        ModelError: If there is nothing to decide.
    """

    decisions: tuple[Decision, ...]
    costs: Mapping[str, CostModel]
    layers: tuple[LayerSpec, ...]
    budget: Budget | None
    kind: str

    def __post_init__(self) -> None:
        assert self.kind in ("filter", "weight"), self.kind
        assert len(self.layers) == len(self.decisions)
        assert {"flops", "params"} <= set(self.costs)
        if not self.decisions:
            raise ModelError("a network must offer at least one decision, and this one has none; prune another one")
        if self.limit is not None and self.smallest_cost > self.limit:
            share = feasible_share(self.smallest_cost, self.cost_model.dense)
            raise BudgetError(
                f"no allocation costs as little as {self.limit:,} {self.metric}: the smallest feasible budget is "
                f"{self.metric}={share:.4f} ({self.smallest_cost:,} of {self.cost_model.dense:,}); raise the budget, "
                f"or let layers be pruned further"
            )

    @property
    def metric(self) -> str:
        """Name of the cost that the budget bounds; `"flops"` without a budget."""
        return self.budget.metric if self.budget else "flops"

    @property
    def cost_model(self) -> CostModel:
        """The cost that the budget bounds."""
        return self.costs[self.metric]

    @cached_property
    def limit(self) -> int | None:
        """The largest cost within the budget; None without a budget."""
        return self.budget.limit(self.cost_model.dense) if self.budget else None

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

    @cached_property
    def smallest_cost(self) -> int:
        """Cost in the budget's metric with every decision at its smallest width."""
        return self.cost(self.min_widths)

    def cost(self, widths: Sequence[int], metric: str | None = None) -> int:
        """Returns what widths cost, in the budget's metric unless another is named."""
        return self.costs[metric or self.metric].cost(widths)

    def walk(self) -> Walk:
        """Starts to decide one width after another."""
        return Walk(self)

    def bounds(self, index: int, chosen: Sequence[int]) -> tuple[int, int]:
        """Returns the smallest and largest width allowed for a decision; see `Walk.bounds` for the fast way.

        `high` is the largest width with which the later decisions, at their smallest, still meet the limit. `low`
        is the largest width with which even the largest later widths do not exceed the limit, so that no budget is
        wasted; the smallest width if there is none.

        Args:
            index: The decision.
            chosen: The widths of (at least) all decisions before it.

        Raises:
            ValueError: If the chosen widths cannot meet the budget.
        """
        decision, limit = self.decisions[index], self.limit
        if limit is None:
            return decision.smallest, decision.largest
        before, after = tuple(chosen[:index]), index + 1

        def meets(rest: tuple[int, ...]) -> int | None:
            return highest_level(decision, lambda width: self.cost((*before, width, *rest)) <= limit)

        high, low = meets(self.min_widths[after:]), meets(self.max_widths[after:])
        if high is None:
            raise ValueError(f"the widths {list(before)} leave no way to meet the budget of {limit}")
        return decision.width(low or 0), decision.width(high)

    def round_width(self, index: int, pruning_ratio: float) -> int:
        """Returns the allowed width nearest to what a pruning ratio leaves, the larger of two equally near."""
        return self.decisions[index].nearest(self.decisions[index].size * (1.0 - pruning_ratio))

    def project(self, keep_ratios: Sequence[float]) -> tuple[int, ...]:
        """Brings wishes to the budget.

        All ratios are multiplied by the largest common factor that meets the limit on rounded widths (it may be
        above 1), each capped at its decision's bounds; what is left is then spent as in `fill`.

        Args:
            keep_ratios: The share of its units that each decision would like to keep. What is below a decision's
                smallest width counts as that width.

        Returns:
            Widths within the limit, none of which can rise by a step. Without a budget: the ratios, rounded.
        """
        wishes = zip(self.decisions, keep_ratios, strict=True)
        targets = [max(decision.size * ratio, decision.smallest) for decision, ratio in wishes]
        if self.limit is None:
            return tuple(d.nearest(target) for d, target in zip(self.decisions, targets, strict=True))
        return projection.project(self, targets, self.limit)

    def fill(self, widths: Sequence[int]) -> tuple[int, ...]:
        """Spends what a budget leaves: raises widths in proportion, then by single steps, until none can rise.

        Args:
            widths: Allowed widths within the limit; none of them falls.

        Returns:
            Widths within the limit, none of which can rise by a step. Without a budget: the same widths.

        Raises:
            ValueError: If the widths are over the limit.
        """
        if self.limit is None:
            return tuple(widths)
        if self.cost(widths) > self.limit:
            raise ValueError(f"widths that cost {self.cost(widths)} are over the limit of {self.limit}; project them")
        return projection.fill(self, widths, self.limit)

    def allocation(self, widths: Sequence[int]) -> Allocation:
        """Names the widths."""
        names = (decision.name for decision in self.decisions)
        return Allocation(self.kind, dict(zip(names, (int(width) for width in widths), strict=True)))

    def widths(self, allocation: Allocation) -> tuple[int, ...]:
        """Returns the widths of an allocation in the order of the decisions; what it does not name stays dense.

        Raises:
            ConfigurationError: If it is of the other kind, or keeps fewer than one or more than all units.
            UnknownNameError: If it names what is not a decision of this problem.
        """
        if allocation.kind != self.kind:
            raise ConfigurationError(f"the allocation must be of kind {self.kind!r}, not {allocation.kind!r}")
        sizes = {decision.name: decision.size for decision in self.decisions}
        for name, width in allocation.widths.items():
            if name not in sizes:
                raise UnknownNameError("decision", name, sizes)
            if not 1 <= width <= sizes[name]:
                raise ConfigurationError(f"{name}: kept units must be from 1 to {sizes[name]}, not {width}")
        return tuple(allocation.widths.get(name, size) for name, size in sizes.items())
