"""Per-layer sensitivity curves, turned into ratios."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from agents.heuristics.base import Planner
from agents.protocol import evaluator_of, problem_of
from amc.errors import ConfigurationError

if TYPE_CHECKING:
    from agents.protocol import AllocationEnv
    from amc.problem import PruningProblem
    from amc.problem.evaluator import Evaluator

Vector = NDArray[np.float64]

_BISECTIONS = 60


class Sensitivity(Planner):
    """Prunes each layer alone, and lets each lose as much as costs the same accuracy (Li et al., 2017).

    Paper: arXiv:1608.08710, section 3.2, measures the curves and reads the ratios off by eye. Here they are read off by
    one tolerance: a decision keeps the least with which its accuracy, pruned alone, falls by no more than the
    tolerance; the tolerance is the smallest that meets the budget. What layers do to each other is ignored.

    The networks that it scores count as candidates: together with the final allocation they are at most `episodes`.
    """

    name: ClassVar[str] = "sensitivity"
    measures: ClassVar[bool] = True

    def __init__(self, levels: int = 4) -> None:
        """Takes the number of points of a curve.

        Args:
            levels: Points of each curve beside the dense network, at least 1; fewer where the episodes do not suffice.

        Raises:
            ConfigurationError: If there is none.
        """
        if levels < 1:
            raise ConfigurationError(f"sensitivity: levels must be at least 1, not {levels}")
        self.levels = levels

    def check_problem(self, problem: PruningProblem, episodes: int) -> None:
        """Checks that the episodes suffice for one point of every curve.

        Raises:
            ConfigurationError: If they do not.
        """
        least = len(problem.decisions) + 2
        if _is_open(problem) and episodes < least:
            raise ConfigurationError(
                f"the agent 'sensitivity' scores each of the {least - 2} layers alone first, which takes at least "
                f"{least} episodes, not {episodes}; raise --episodes, or choose another agent"
            )

    def plan(self, env: AllocationEnv, episodes: int) -> tuple[int, ...]:
        """Measures the curves and returns the widths of the smallest tolerance; see `Planner.plan`."""
        problem = problem_of(env)
        self.check_problem(problem, episodes)
        if not _is_open(problem):
            return problem.project([1.0] * len(problem.decisions))
        levels = min(self.levels, (episodes - 2) // len(problem.decisions))
        keep, drops = measure_drops(problem, evaluator_of(env), levels)
        return tolerated_widths(problem, keep, drops)


def _is_open(problem: PruningProblem) -> bool:
    """Returns whether there is anything to balance: a budget that several decisions share."""
    return problem.limit is not None and len(problem.decisions) > 1


def measure_drops(problem: PruningProblem, evaluator: Evaluator, levels: int) -> tuple[list[Vector], list[Vector]]:
    """Scores the network with one decision pruned at a time.

    Returns:
        For each decision, falling keep ratios from the largest allowed one, and what accuracy is lost at each, in
        percent; shape `(levels + 1,)`.
    """
    dense = evaluator.score(problem.allocation(problem.max_widths)).accuracy
    keep, drops = [], []
    for index, decision in enumerate(problem.decisions):
        targets = np.linspace(decision.largest, decision.smallest, levels + 1)
        widths = [decision.nearest(float(target)) for target in targets]
        lost = [0.0]
        for width in widths[1:]:
            alone = (*problem.max_widths[:index], width, *problem.max_widths[index + 1 :])
            lost.append(dense - evaluator.score(problem.allocation(alone)).accuracy)
        keep.append(np.array(widths) / decision.size)
        drops.append(np.array(lost))
    return keep, drops


def tolerated_ratio(keep: Vector, drops: Vector, tolerance: float) -> float:
    """Returns the least keep ratio at which a curve loses no more than a tolerance.

    Args:
        keep: Falling keep ratios.
        drops: What is lost at each; made monotone (a loss that was reached stays) and linear in between.
        tolerance: What may be lost, at least 0.
    """
    rising = np.maximum.accumulate(np.maximum(drops, 0.0))
    inside = np.flatnonzero(rising <= tolerance)
    last = int(inside[-1]) if len(inside) else 0
    if last == len(keep) - 1:
        return float(keep[-1])
    share = (tolerance - rising[last]) / (rising[last + 1] - rising[last])
    return float(keep[last] + share * (keep[last + 1] - keep[last]))


def tolerated_widths(problem: PruningProblem, keep: Sequence[Vector], drops: Sequence[Vector]) -> tuple[int, ...]:
    """Returns the widths of the smallest tolerance that meets the budget, and spends what is left of it."""
    assert problem.limit is not None

    def widths(tolerance: float) -> tuple[int, ...]:
        return tuple(
            decision.nearest(decision.size * tolerated_ratio(ratios, lost, tolerance))
            for decision, ratios, lost in zip(problem.decisions, keep, drops, strict=True)
        )

    low, high = 0.0, max(float(lost.max()) for lost in drops) + 1.0  # all that can be lost: the smallest widths
    if problem.cost(widths(low)) <= problem.limit:
        return problem.fill(widths(low))
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if problem.cost(widths(middle)) <= problem.limit else (middle, high)
    return problem.fill(widths(high))
