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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from amc.errors import ConfigurationError
from amc.problem.score import Score
from amc.utils.options import Chosen, create, spell
from amc.utils.registry import Registry

if TYPE_CHECKING:
    from amc.problem import PruningProblem


@dataclass(frozen=True)
class Outcome:
    """The result of scoring an allocation.

    Attributes:
        score: How well the pruned network does.
        costs: What the pruned network costs, by metric: `"flops"`, `"params"` (in weight pruning those that are not
            zero), ...
        dense_costs: What the dense network costs, by metric.
    """

    score: Score
    costs: Mapping[str, int | float]
    dense_costs: Mapping[str, int | float]

    @staticmethod
    def of(problem: PruningProblem, widths: Sequence[int], score: Score) -> Outcome:
        """Combines a score with the costs of the widths that earned it."""
        return Outcome(score, problem.costs_of(widths), problem.dense_costs)

    @property
    def error(self) -> float:
        """Top-1 error as a fraction."""
        return 1.0 - self.score.accuracy / 100.0


Reward = Callable[[Outcome], float]


@dataclass(frozen=True)
class Accuracy:
    """Top-1 accuracy under a hard budget: `1 - error`."""

    def __call__(self, outcome: Outcome) -> float:
        """Returns the accuracy as a fraction."""
        return outcome.score.accuracy / 100.0


@dataclass(frozen=True)
class ErrorTimesLogFlops:
    """The paper's reward for a guaranteed accuracy: `-error * log(FLOPs)`."""

    budget_free: ClassVar[bool] = True

    def __call__(self, outcome: Outcome) -> float:
        """Returns what an outcome is worth."""
        return -outcome.error * math.log(outcome.costs["flops"])


@dataclass(frozen=True)
class ErrorTimesLogParams:
    """The same for parameters: `-error * log(parameters)`."""

    budget_free: ClassVar[bool] = True

    def __call__(self, outcome: Outcome) -> float:
        """Returns what an outcome is worth."""
        return -outcome.error * math.log(outcome.costs["params"])


@dataclass(frozen=True)
class CrossEntropy:
    """Minus the mean cross-entropy, in nats."""

    def __call__(self, outcome: Outcome) -> float:
        """Returns what an outcome is worth."""
        return -outcome.score.cross_entropy


@dataclass(frozen=True)
class Agreement:
    """Share of the images that are classified as the dense network does; needs no labels."""

    def __call__(self, outcome: Outcome) -> float:
        """Returns the share.

        Raises:
            ConfigurationError: If the evaluator has measured none.
        """
        if math.isnan(outcome.score.agreement):
            raise ConfigurationError(
                "the reward 'agreement' needs an evaluator that measures agreement, and this one reports NaN; "
                "give it the dense network's predictions, or choose the reward 'accuracy'"
            )
        return outcome.score.agreement / 100.0


REWARDS: Registry[Callable[..., Reward]] = Registry("reward", "amc.rewards", method="__call__")
"""Every reward's factory by name; see `amc.utils.options`. A reward with a true attribute `budget_free` weighs accuracy
against size by itself, and makes sense without a budget; the others grow towards the dense network."""

REWARDS.register("accuracy", Accuracy, "top-1 accuracy under a hard budget")
REWARDS.register("flops", ErrorTimesLogFlops, "-error * log(FLOPs); the paper's, needs no budget")
REWARDS.register("params", ErrorTimesLogParams, "-error * log(parameters); needs no budget")
REWARDS.register("cross_entropy", CrossEntropy, "negative mean cross-entropy")
REWARDS.register("agreement", Agreement, "agreement with the dense network; no labels")


def as_reward(reward: Chosen | Reward) -> Reward:
    """Returns the reward that was chosen by name; a function is returned as it is.

    Raises:
        UnknownNameError: If no reward has the name.
        ConfigurationError: If an option cannot be used, or it is neither name nor function.
    """
    if isinstance(reward, str | Mapping):
        return create(REWARDS, reward)
    if not callable(reward):
        raise ConfigurationError(f"the reward must be a name or a function of an Outcome, not {reward!r}")
    return reward


def is_budget_free(reward: Chosen | Reward) -> bool:
    """Returns whether a reward weighs accuracy against size by itself, so that it makes sense without a budget.

    Raises:
        ConfigurationError: If it is not a reward.
    """
    return bool(getattr(as_reward(reward), "budget_free", False))


def paid(reward: Reward, outcome: Outcome) -> float:
    """Returns what a reward pays for an outcome.

    Raises:
        ConfigurationError: If that is not a number.
    """
    value = reward(outcome)
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"a reward must return a number, higher is better, not {value!r}") from error


def name_of(reward: Chosen | Reward) -> str:
    """Returns the choice as text, or a name that no other function of the process has: two lambdas are two rewards."""
    if isinstance(reward, str | Mapping):
        return spell(REWARDS, reward)
    name = getattr(reward, "__qualname__", "<")
    return repr(reward) if "<" in name else f"{reward.__module__}.{name}"


def resolve_reward(reward: Chosen | Reward, *, has_budget: bool) -> Reward:
    """Returns the reward that was chosen by name; a function is returned as it is.

    Raises:
        UnknownNameError: If no reward has the name.
        ConfigurationError: If a reward chosen by name needs a budget and there is none, or it is not a reward.
    """
    found = as_reward(reward)
    if isinstance(reward, str | Mapping) and not has_budget and not is_budget_free(found):
        free = " or ".join(repr(name) for name in REWARDS.names() if getattr(REWARDS.get(name), "budget_free", False))
        raise ConfigurationError(
            f"the reward {spell(REWARDS, reward)!r} needs a budget, as the dense network is best without one; "
            f"give a budget, or choose the reward {free}"
        )
    return found
