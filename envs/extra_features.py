"""Features beside the paper's Eq. 1, with which one policy serves many networks and budgets.

Eq. 1 does not show the budget, and its "t" does not show how deep a layer lies in the network's cost. Each feature
below is chosen by name, lies in [0, 1], and needs no forward pass. With `S` and `L` the costs of the choices so far and
all open decisions at their smallest and largest widths:

    budget      = clip((limit - S) / (L - S), 0, 1): the share of what the open decisions could spend that the budget
                  has left for them, on average for each; 1 without a budget
    depth       = sum of the dense FLOPs of the layers of decisions 0 .. t-1 / sum of those of all decisions
    sensitivity = sqrt(e_t / max_i e_i), e_i the relative squared error of the outputs of decision i's layers
                  when half of its units are kept, as the search's tables have it
    dp          = pruning ratio of the decision in the allocation of the least sum of these errors under the budget
                  (`--agent dp`); 0 without a budget
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from amc.problem import PruningProblem, Walk
from amc.problem.evaluator import Evaluator
from amc.problem.least_error import least_error_widths
from amc.utils.registry import Registry

Reading: TypeAlias = Callable[[Walk], float]
"""The value of a feature for the open decision of a walk, in [0, 1]; after the last decision, that of the last."""


class ExtraFeature(ABC):
    """One more entry of the observation."""

    @abstractmethod
    def of(self, problem: PruningProblem, evaluator: Evaluator) -> Reading:
        """Prepares the feature for a problem.

        Args:
            problem: The problem.
            evaluator: Knows the errors of layers; it is not asked before the first observation.
        """


class BudgetLeft(ExtraFeature):
    """What the budget leaves the open decisions."""

    def of(self, problem: PruningProblem, evaluator: Evaluator) -> Reading:
        """Returns the share of what the open decisions could spend; see `ExtraFeature`."""
        limit = problem.limit

        def share(walk: Walk) -> float:
            smallest, largest = walk.open_costs
            if limit is None or largest <= smallest:
                return 1.0
            return min(1.0, max(0.0, (limit - smallest) / (largest - smallest)))

        return share


class Depth(ExtraFeature):
    """Where a layer lies, by cost."""

    def of(self, problem: PruningProblem, evaluator: Evaluator) -> Reading:
        """Returns the share of the FLOPs before the layer; see `ExtraFeature`."""
        flops = np.array([layer.flops for layer in problem.layers], dtype=np.float64)
        before = (np.cumsum(flops) - flops) / max(1.0, float(flops.sum()))
        return lambda walk: float(before[_index(problem, walk)])


class Sensitivity(ExtraFeature):
    """How much a layer's outputs suffer, relative to the most sensitive layer."""

    def of(self, problem: PruningProblem, evaluator: Evaluator) -> Reading:
        """Returns the relative error at half the units over the largest of all decisions; see `ExtraFeature`."""

        @cache
        def shares() -> NDArray[np.float64]:
            errors = evaluator.errors()
            halves = np.array([errors[decision.name][max(1, decision.size // 2)] for decision in problem.decisions])
            found: NDArray[np.float64] = np.sqrt(np.clip(halves / (halves.max() or 1.0), 0.0, 1.0))
            return found

        return lambda walk: float(shares()[_index(problem, walk)])


class DynamicProgramme(ExtraFeature):
    """What the dynamic programme over the tables' errors would remove of the layer at this budget."""

    def of(self, problem: PruningProblem, evaluator: Evaluator) -> Reading:
        """Returns the pruning ratio of the allocation of the least total error; see `ExtraFeature`."""

        @cache
        def ratios() -> NDArray[np.float64]:
            if problem.limit is None:
                return np.zeros(len(problem.decisions))
            return 1.0 - np.array(problem.keep_ratios(least_error_widths(problem, evaluator.errors())))

        return lambda walk: float(ratios()[_index(problem, walk)])


def _index(problem: PruningProblem, walk: Walk) -> int:
    """Returns the index of the decision that an observation is about."""
    return min(walk.index, len(problem.decisions) - 1)


EXTRA_FEATURES: Registry[Callable[[], ExtraFeature]] = Registry("feature")
"""What the state may hold beside the paper's 11 features, by name."""

EXTRA_FEATURES.register("budget", BudgetLeft, "what the budget leaves the open decisions, as a share")
EXTRA_FEATURES.register("depth", Depth, "share of the FLOPs that lie before the layer")
EXTRA_FEATURES.register("sensitivity", Sensitivity, "error of the layer at half its units, from the search's tables")
EXTRA_FEATURES.register("dp", DynamicProgramme, "what the dynamic programme over the tables' errors removes of it")
