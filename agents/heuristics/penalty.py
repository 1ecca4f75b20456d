"""Allocations read off a network that was trained with a penalty's gates, factors or codes."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from agents.heuristics.base import Planner
from agents.protocol import evaluator_of, problem_of
from amc.errors import ConfigurationError

if TYPE_CHECKING:
    from agents.protocol import AllocationEnv

CRITERIA = {"filter": "gates", "weight": "magnitude"}
"""The criterion that is zero where a penalty has closed a unit, by the kind of the problem."""


class Penalty(Planner):
    """Keeps the units that a penalty of the training has not driven to zero, and cuts the others.

    For networks trained with `l0`, `sss` or `autopruner` (channels), or `variational_dropout` (weights), which fold
    their gates into the layers. Without a budget it is all that is cut. Under one, what is left is scaled by one factor
    where it is too much, and filled up where there is room, as every allocation is. Where nothing is zero, that is the
    uniform allocation. Papers: those of the penalties, such as arXiv:1712.01312.
    """

    name: ClassVar[str] = "penalty"

    def __init__(self, criterion: str = "auto", threshold: float = 0.0) -> None:
        """Takes the rule that separates closed from open units.

        Args:
            criterion: What scores the units; auto is gates for channels, and magnitude for weights.
            threshold: Units of this score or less are closed, as a share of the layer's largest score. 0 for those that
                are zero; slimming, which leaves small scales, needs more, such as 0.01.

        Raises:
            ConfigurationError: If the threshold is not in [0, 1).
        """
        if not 0 <= threshold < 1:
            raise ConfigurationError(f"penalty: threshold must be in [0, 1), not {threshold:g}")
        self.criterion, self.threshold = criterion, threshold

    def criterion_for(self, kind: str) -> str:
        """Returns the criterion that it looks at, for a kind of problem; see `agents.protocol.check_plan`."""
        return CRITERIA[kind] if self.criterion == "auto" else self.criterion

    def plan(self, env: AllocationEnv, episodes: int) -> tuple[int, ...]:
        """Returns the number of open units of every decision; see `Planner.plan`."""
        problem = problem_of(env)
        found = evaluator_of(env).saliency(self.criterion_for(problem.kind))
        counts = []
        for decision in problem.decisions:
            scores = found[decision.name]
            counts.append(int((scores > self.threshold * scores.max()).sum()))
        widths = tuple(decision.nearest(count) for decision, count in zip(problem.decisions, counts, strict=True))
        if problem.limit is None or problem.cost(widths) <= problem.limit:
            return widths
        return problem.project(problem.keep_ratios(widths))
