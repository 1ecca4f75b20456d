"""`AMC/Digits-v0`: an environment without arguments, to train any learner on in one line."""

from __future__ import annotations

from functools import cache
from typing import Any

from amc.costs import Budget
from amc.data import DataConfig, load_data
from amc.models import create_model
from amc.pipeline.problems import make_problem
from amc.problem import PruningProblem
from amc.problem.evaluator import Evaluator, EvaluatorProxy
from amc.problem.score import Score
from amc.pruning import PruningConfig
from amc.runtime.threads import computing_with
from amc.structure import Allocation
from amc.training import TrainConfig, train_model
from amc.utils.random_state import isolated_random_state
from envs.pruning_env import FilterPruningEnv, PruningEnv, WeightPruningEnv

_EPOCHS = 6
"""Enough for a network with something to lose: above 90% on the search split, after two seconds."""
_ENVIRONMENTS = {"filter": FilterPruningEnv, "weight": WeightPruningEnv}


def digits_environment(
    budget: float = 0.5, family: str = "filter", symmetric_actions: bool = True, **options: Any
) -> PruningEnv:
    """Makes the environment of a small residual network on scikit-learn's handwritten digits.

    The network is trained when a process makes its first environment, which takes a few seconds; later ones share it.
    The seed is fixed, so every process trains the same network.

    Args:
        budget: Share of the FLOPs that is kept; of the parameters in weight pruning.
        family: `"filter"` or `"weight"`.
        symmetric_actions: As for `PruningEnv`; in [-1, 1] by default, as most libraries prefer.
        **options: As for `PruningEnv`.

    Raises:
        BudgetError: If no allocation meets the budget.
        UnknownNameError: If there is no such family.
    """
    problem, evaluator = _digits_problem(family, budget)
    return _ENVIRONMENTS[family](problem, evaluator, symmetric_actions=symmetric_actions, **options)


@cache
def _digits_problem(family: str, budget: float) -> tuple[PruningProblem, Evaluator]:
    """Makes the problem and its evaluator; the caller's random state stays as it is."""
    pruning = PruningConfig(family=family)
    bound = Budget(params=budget) if family == "weight" else Budget(flops=budget)
    digits = load_data(DataConfig())
    with isolated_random_state(0), computing_with(1):
        model = create_model("digits_resnet", seed=0)
        train_model(model, digits, TrainConfig(epochs=_EPOCHS), seed=0, device="cpu")
        problem, evaluator = make_problem(model, digits, bound, pruning=pruning, device="cpu")
    return problem, _OnOneThread(evaluator)


class _OnOneThread(EvaluatorProxy):
    """Scores with one thread: images of 8x8 pixels are too small to share among cores."""

    def score(self, allocation: Allocation) -> Score:
        with computing_with(1):
            return self.inner.score(allocation)
