"""What an episode is worth.

A reward is a function of the outcome of a whole allocation; the environment pays it at the last step. In the paper's
terms (He et al., ECCV 2018, sections 3.3 and 3.4) `error` is the top-1 error as a fraction and FLOPs are as fvcore
counts them (one fused multiply-add is one).

| name | formula | scale | budget |
| --- | --- | --- | --- |
| `accuracy` | `1 - error` (paper: `-error`; a constant apart) | 0 to 1 | needed |
| `flops` | `-error * log(FLOPs)` | about -20 to 0 | optional |
| `params` | `-error * log(parameters)` | about -20 to 0 | optional |
| `cross_entropy` | minus the mean cross-entropy in nats | below 0 | needed |
| `agreement` | share of images classified as the dense network does | 0 to 1 | needed |
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from amc.errors import ConfigurationError
from amc.problem.score import Score
from amc.utils.registry import Registry

if TYPE_CHECKING:
    from amc.problem import PruningProblem


@dataclass(frozen=True)
class Outcome:
    """What scoring an allocation has shown.

    Attributes:
        score: How well the pruned network does.
        flops: FLOPs of the pruned network.
        params: Parameters of the pruned network (in weight pruning: those that are not zero).
        dense_flops: FLOPs of the dense network.
        dense_params: Parameters of the dense network.
    """

    score: Score
    flops: int
    params: int
    dense_flops: int
    dense_params: int

    @staticmethod
    def of(problem: PruningProblem, widths: Sequence[int], score: Score) -> Outcome:
        """Puts a score together with the costs of the widths that earned it."""
        flops, params = problem.costs["flops"], problem.costs["params"]
        return Outcome(score, flops.cost(widths), params.cost(widths), flops.dense, params.dense)

    @property
    def error(self) -> float:
        """Top-1 error as a fraction."""
        return 1.0 - self.score.accuracy / 100.0


Reward = Callable[[Outcome], float]


@dataclass(frozen=True)
class NamedReward:
    """A reward that users choose by name.

    Attributes:
        name: The name.
        formula: The reward itself.
        budget_free: Whether it makes sense without a budget because it weighs accuracy against size by itself
            (the paper's accuracy-guaranteed compression). The others grow towards the dense network.
    """

    name: str
    formula: Reward
    budget_free: bool = False

    def __call__(self, outcome: Outcome) -> float:
        """Returns the reward of an outcome."""
        return self.formula(outcome)


def _accuracy(outcome: Outcome) -> float:
    return outcome.score.accuracy / 100.0


def _flops(outcome: Outcome) -> float:
    return -outcome.error * math.log(outcome.flops)


def _params(outcome: Outcome) -> float:
    return -outcome.error * math.log(outcome.params)


def _cross_entropy(outcome: Outcome) -> float:
    return -outcome.score.cross_entropy


def _agreement(outcome: Outcome) -> float:
    if math.isnan(outcome.score.agreement):
        raise ConfigurationError(
            "the reward 'agreement' needs an evaluator that measures agreement, and this one reports NaN; "
            "give it the dense network's predictions, or choose the reward 'accuracy'"
        )
    return outcome.score.agreement / 100.0


REWARDS: Registry[NamedReward] = Registry("reward")
REWARDS.register("accuracy", NamedReward("accuracy", _accuracy), "top-1 accuracy under a hard budget")
REWARDS.register("flops", NamedReward("flops", _flops, budget_free=True), "-error * log(FLOPs)")
REWARDS.register("params", NamedReward("params", _params, budget_free=True), "-error * log(parameters)")
REWARDS.register("cross_entropy", NamedReward("cross_entropy", _cross_entropy), "negative mean cross-entropy")
REWARDS.register("agreement", NamedReward("agreement", _agreement), "agreement with the dense network; no labels")


def is_budget_free(reward: str | Reward) -> bool:
    """Tells whether a reward weighs accuracy against size by itself, so that it makes sense without a budget.

    Raises:
        UnknownNameError: If no reward has the name.
    """
    return isinstance(reward, str) and REWARDS.get(reward).budget_free


def paid(reward: Reward, outcome: Outcome) -> float:
    """Returns what a reward pays for an outcome.

    Raises:
        ConfigurationError: If that is no number.
    """
    value = reward(outcome)
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"a reward must return a number, higher is better, not {value!r}") from error


def name_of(reward: Reward) -> str:
    """Returns a name that no other function of the process has: two lambdas are two rewards."""
    name = getattr(reward, "__qualname__", "<")
    return repr(reward) if "<" in name else f"{reward.__module__}.{name}"


def resolve_reward(reward: str | Reward, *, has_budget: bool) -> Reward:
    """Returns the reward that a name stands for; a callable is returned as it is.

    Raises:
        UnknownNameError: If no reward has the name.
        ConfigurationError: If the named reward needs a budget and there is none, or it is neither name nor function.
    """
    if not isinstance(reward, str):
        if not callable(reward):
            raise ConfigurationError(f"the reward must be a name or a function of an Outcome, not {reward!r}")
        return reward
    named = REWARDS.get(reward)
    if not has_budget and not named.budget_free:
        free = " or ".join(repr(entry.name) for entry in REWARDS.entries() if REWARDS.get(entry.name).budget_free)
        raise ConfigurationError(
            f"the reward {reward!r} needs a budget, as the dense network is best without one; "
            f"give a budget, or choose the reward {free}"
        )
    return named
