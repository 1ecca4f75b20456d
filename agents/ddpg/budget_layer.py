"""The budget as a differentiable layer, so that the actor's gradient reflects how layers compete for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from amc.problem import PruningProblem

_CLAMPING_ROUNDS = 3


class BudgetLayer:
    """Scales keep ratios by one common factor so that they meet the budget, as `PruningProblem.project` does.

    The cost is linearised around widths that meet the budget, which makes the scaling differentiable: a layer that
    keeps more takes its cost from all others. Ratios stay within the bounds of their decisions.
    """

    def __init__(self, problem: PruningProblem, widths: Sequence[int]) -> None:
        """Linearises the cost.

        Args:
            problem: The problem; without a budget the layer only clamps.
            widths: Widths near which the layer is to be exact, one a decision.
        """
        self._low = torch.tensor(problem.keep_ratios(problem.min_widths))
        self._high = torch.tensor(problem.keep_ratios(problem.max_widths))
        self._slopes, self._spend = _linearised(problem, widths)

    def __call__(self, keep: torch.Tensor) -> torch.Tensor:
        """Returns keep ratios on the budget, shape `(N, decisions)` as the ones given."""
        keep = self._clamp(keep)
        if self._slopes is None:
            return keep
        for _ in range(_CLAMPING_ROUNDS):
            keep = self._clamp(keep * (self._spend / (keep @ self._slopes)).unsqueeze(1))
        return keep

    def excess(self, keep: torch.Tensor) -> torch.Tensor:
        """Returns the relative distance of ratios from the budget, shape `(N,)`; zero without a budget."""
        if self._slopes is None:
            return torch.zeros(len(keep))
        return (keep @ self._slopes) / self._spend - 1.0

    def _clamp(self, keep: torch.Tensor) -> torch.Tensor:
        return torch.minimum(torch.maximum(keep, self._low), self._high)


def _linearised(problem: PruningProblem, widths: Sequence[int]) -> tuple[torch.Tensor | None, float]:
    """Returns the cost of each decision per unit of its keep ratio, relative to the budget, and their spend."""
    if problem.limit is None:
        return None, 0.0
    others = []
    for decision, width in zip(problem.decisions, widths, strict=True):
        reach = max(decision.step, decision.size // 8)
        lower = decision.nearest(width - reach)
        others.append(lower if lower < width else decision.nearest(width + reach))
    relative = torch.tensor(problem.cost_slopes(widths, others)) / problem.limit
    keep = torch.tensor(problem.keep_ratios(widths))
    left = (problem.limit - problem.cost(widths)) / problem.limit  # the rest of the budget is available
    return relative, float(relative @ keep) + left
