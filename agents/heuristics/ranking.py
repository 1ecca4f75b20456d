"""Allocations by one ranking of all units of the network: the lowest go, whatever their layer.

Only the counts are used. Which units of a layer stay is up to the criterion of the pruning, so that "the layer-wise
ratios of SNIP" and "the weights that SNIP keeps" can be told apart (Liu et al., 2022, arXiv:2202.02643).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from agents.heuristics.base import Planner
from agents.protocol import evaluator_of, problem_of

if TYPE_CHECKING:
    from agents.protocol import AllocationEnv
    from amc.problem import PruningProblem

Scores = NDArray[np.float64]

MAGNITUDES = {"filter": "l2", "weight": "magnitude"}
"""The criterion that stands for the magnitude of a unit, by the kind of the problem."""


class GlobalRanking(Planner):
    """Keeps the units of the highest scores over all decisions, as many as the budget allows.

    One threshold for the whole network, as in Frankle and Carbin, 2019 (arXiv:1803.03635, section 4), where it is on
    magnitudes. Without a budget everything stays. Scores of different layers are compared as they are: a layer of a
    smaller scale loses more, which batch norms may make arbitrary. Bounds of the decisions keep layers from being
    emptied.
    """

    name: ClassVar[str] = "global"

    def __init__(self, criterion: str = "auto") -> None:
        """Takes the ranking.

        Args:
            criterion: What scores the units; auto is the magnitude: the weight's own, or the L2 norm of a filter.
        """
        self.criterion = criterion

    def plan(self, env: AllocationEnv, episodes: int) -> tuple[int, ...]:
        """Returns the widths that one global threshold leaves; see `Planner.plan`."""
        problem = problem_of(env)
        if problem.limit is None:
            return problem.max_widths
        found = evaluator_of(env).saliency(self.criterion_for(problem.kind))
        scores = [  # channels are ranked, and whole blocks stay
            np.full(1, np.inf) if decision.may_vanish else self.scores(found[decision.name])
            for decision in problem.decisions
        ]
        return ranked_widths(problem, scores)

    def criterion_for(self, kind: str) -> str:
        """Returns the criterion that it ranks by, for a kind of problem; see `agents.protocol.check_plan`."""
        return MAGNITUDES[kind] if self.criterion == "auto" else self.criterion

    def scores(self, saliency: Scores) -> Scores:
        """Returns the scores of one decision's units that are comparable across decisions, shape `(units,)`."""
        return saliency


class Snip(GlobalRanking):
    """Layer-wise ratios of SNIP: connection sensitivity, ranked over the whole network (Lee et al., 2019).

    Paper: arXiv:1810.02340, section 4.1: `|weight * gradient|` of each weight, the largest kept. Deviations: the
    network is the trained one, the gradient that of the calibration images; and only the counts are kept, as in the
    "SNIP ratios" of arXiv:2202.02643.
    """

    name: ClassVar[str] = "snip"

    def __init__(self) -> None:
        """Ranks by the connection sensitivity."""
        super().__init__("snip")


class Lamp(GlobalRanking):
    """Layer-adaptive magnitude pruning (Lee et al., 2021, arXiv:2010.07611, Eq. 3).

    The squared magnitude of a unit over the sum of those in its layer that are not smaller:
    `score(u) = w_u^2 / sum of w_v^2 over v >= u`. The largest unit of every layer scores 1, so each keeps one at least.
    For channels the filter's squared norm stands for the squared weight (our extension).
    """

    name: ClassVar[str] = "lamp"

    def scores(self, saliency: Scores) -> Scores:
        """Returns the scores of one decision's units; see `lamp_scores`."""
        return lamp_scores(saliency)


def lamp_scores(magnitudes: Scores) -> Scores:
    """Computes the LAMP scores of the units of a layer (arXiv:2010.07611, Eq. 3).

    Args:
        magnitudes: Absolute weights, or norms, `(units,)`, in any order.

    Returns:
        Scores in [0, 1], `(units,)`, in the same order. Of equal magnitudes the later ones score higher.
    """
    order = np.argsort(magnitudes, kind="stable")
    squares = np.square(magnitudes[order].astype(np.float64))
    not_smaller = np.cumsum(squares[::-1])[::-1]
    scores = np.empty_like(squares)
    scores[order] = np.divide(squares, not_smaller, out=np.zeros_like(squares), where=not_smaller > 0)
    return scores


def ranked_widths(problem: PruningProblem, scores: Sequence[Scores]) -> tuple[int, ...]:
    """Keeps the highest scores of all decisions together, as many as the limit allows, then spends what is left.

    Args:
        problem: The problem; it has a budget.
        scores: One array per decision, shape `(units,)`; of equal scores those of earlier decisions stay.

    Returns:
        Widths within the limit, none of which can rise by a step.
    """
    assert problem.limit is not None
    values = np.concatenate(scores)
    owners = np.repeat(np.arange(len(scores)), [len(part) for part in scores])
    owners = owners[np.argsort(-values, kind="stable")]

    def widths(count: int) -> tuple[int, ...]:
        counts = np.bincount(owners[:count], minlength=len(scores))
        return tuple(decision.nearest(int(kept)) for decision, kept in zip(problem.decisions, counts, strict=True))

    low, high = 0, len(owners)  # of the kept units the cost is a rising function
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if problem.cost(widths(middle)) <= problem.limit else (low, middle - 1)
    return problem.fill(widths(low))
