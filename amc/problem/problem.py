"""A pruning problem: the decisions, what they cost, and the budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from amc.costs.budget import Budget, feasible_share
from amc.costs.cost_model import CostModel
from amc.costs.metrics import in_words
from amc.costs.tightest_cost import TightestCost
from amc.errors import InfeasibleBudgetError, ModelError
from amc.problem import projection
from amc.problem.decision import Decision
from amc.problem.space import DecisionSpace
from amc.problem.walk import Walk
from amc.structure import LayerSpec

_LEAST_REQUEST = 1e-6
"""Stands in for a request to keep nothing, which needs some proportion to the others."""
_STAYS, _HALF = 1e6, 0.5
"""The request for a block that is to stay: a factor that scales it to nothing leaves nothing of the others either."""


@dataclass(frozen=True)
class PruningProblem(DecisionSpace):
    """What an agent has to decide, and the rules that apply to every agent.

    All methods on the budget are exact on rounded widths.

    Attributes:
        decisions: The decisions, in the order of execution.
        kind: `"filter"` (a unit is a channel) or `"weight"` (a unit is a weight).
        costs: Cost models by metric; always `"flops"` and `"params"`.
        layers: The layer that the observation describes, one per decision.
        budget: What the pruned network may cost, or None for no bound.

    Raises:
        BudgetError: If even the smallest widths exceed the budget, or the budget is above the dense cost.
        ModelError: If there is nothing to decide.
    """

    costs: Mapping[str, CostModel]
    layers: tuple[LayerSpec, ...]
    budget: Budget | None

    def __post_init__(self) -> None:
        super().__post_init__()
        assert len(self.layers) == len(self.decisions)
        assert {"flops", "params"} <= set(self.costs)
        if not self.decisions:
            raise ModelError("a network must offer at least one decision, and this one has none; prune another one")
        self._check_feasible()

    def _check_feasible(self) -> None:
        smallest = self.costs_of(self.min_widths)
        for metric, limit in self.limits.items():
            dense, cost = self.costs[metric].dense, smallest[metric]
            if cost > limit:
                assert self.budget is not None
                is_percent = 1 < limit <= 100 and isinstance(self.budget.bounds.get(metric), int)  # shares are floats
                percent = f"did you mean {metric}={limit / 100:g}? " if is_percent else ""
                raise InfeasibleBudgetError(
                    f"{percent}no allocation costs as little as {in_words(metric, limit)}: the smallest feasible "
                    f"budget is {metric}={feasible_share(cost, dense):.4f} ({in_words(metric, cost)} of "
                    f"{in_words(metric, dense)}); raise the budget"
                )

    @property
    def metric(self) -> str:
        """Name of the cost that the budget bounds, several joined by `"+"`; `"flops"` without a budget."""
        return self.budget.metric if self.budget else "flops"

    @cached_property
    def limits(self) -> dict[str, int]:
        """The largest costs within the budget, by metric; empty without a budget."""
        return self.budget.limits(self.dense_costs) if self.budget else {}

    @cached_property
    def cost_model(self) -> CostModel:
        """The cost that the budget bounds; of several, the one whose bound is nearest (`TightestCost`)."""
        return self._tightest if len(self.limits) > 1 else self.costs[self.metric]

    @cached_property
    def limit(self) -> int | None:
        """The largest cost within the budget, as `cost_model` counts; None without a budget."""
        if len(self.limits) > 1:
            return self._tightest.limit
        return next(iter(self.limits.values()), None)

    @cached_property
    def _tightest(self) -> TightestCost:
        return TightestCost(self.costs, self.limits)

    def cost(self, widths: Sequence[int], metric: str | None = None) -> int:
        """Returns what widths cost, as the budget counts unless a metric is named."""
        model = self.cost_model if metric is None else self.costs[metric]
        return model.cost(widths)

    def costs_of(self, widths: Sequence[int]) -> dict[str, int]:
        """Returns what widths cost, by metric."""
        return {name: model.cost(widths) for name, model in self.costs.items()}

    @cached_property
    def dense_costs(self) -> dict[str, int]:
        """What the dense network costs, by metric."""
        return {name: model.dense for name, model in self.costs.items()}

    def cost_slopes(self, widths: Sequence[int], others: Sequence[int] | None = None) -> tuple[float, ...]:
        """Returns what each decision costs per unit of its keep ratio, all other widths as they are.

        Args:
            widths: One width per decision.
            others: The width, one a decision, to which the cost is compared; if None the smallest, and for decisions
                that are at it the dense one.

        Returns:
            Differences of the cost in the budget's metric over those of the keep ratio; 0 where a width has no other.
        """
        if others is None:
            bounds = zip(widths, self.min_widths, self.dense_widths, strict=True)
            others = [low if width > low else dense for width, low, dense in bounds]
        total, slopes = self.cost(widths), []
        for index, (width, other) in enumerate(zip(widths, others, strict=True)):
            changed = [*widths[:index], other, *widths[index + 1 :]]
            share = (width - other) / self.dense_widths[index]
            slopes.append((total - self.cost(changed)) / share if share else 0.0)
        return tuple(slopes)

    def walk(self) -> Walk:
        """Starts a walk that decides one width after another."""
        return Walk(self, self.cost_model, self.limit)

    def project(self, keep_ratios: Sequence[float]) -> tuple[int, ...]:
        """Scales requested keep ratios to the budget.

        All ratios are multiplied by the largest common factor that meets the limit on rounded widths (it may be
        above 1), each capped at its decision's bounds; the rest is then spent as in `fill`. A residual block stays if
        half of it or more is requested, whatever the factor, unless nothing else meets the limit.

        Args:
            keep_ratios: The share of its units that each decision would like to keep. Only their proportions count
                where there is a budget, so that they may all be far below the smallest widths.

        Returns:
            Widths within the limit, none of which can rise by a step. Without a budget: the ratios, rounded.
        """
        requests = zip(self.decisions, keep_ratios, strict=True)
        targets = [_target(decision, ratio) for decision, ratio in requests]
        if self.limit is None:
            return tuple(d.nearest(target) for d, target in zip(self.decisions, targets, strict=True))
        return projection.project(self, self.cost_model, self.limit, targets)

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
        return projection.fill(self, self.cost_model, self.limit, widths)


def _target(decision: Decision, ratio: float) -> float:
    """Returns the units to keep, before they are scaled by the factor that all decisions share."""
    if decision.may_vanish:
        return _STAYS if ratio >= _HALF else _LEAST_REQUEST
    return decision.size * max(ratio, _LEAST_REQUEST)
