"""The task that an agent's experience belongs to, so that it is not mistaken for another's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agents.protocol import problem_of
from amc.errors import CheckpointError
from amc.structure import KINDS
from amc.utils.conversion import convert

if TYPE_CHECKING:
    from agents.protocol import AllocationEnv


@dataclass(frozen=True)
class LearntTask:
    """The decisions that an agent made, what it saw of them, and how they were judged.

    Weights and data are not part of it: if they change, the caller decides whether experience stays comparable.

    Attributes:
        decisions: Name and dense width of every decision.
        metric: Name of the cost that the budget bounds.
        limit: The largest cost within the budget; None without a budget.
        reward: Name of the reward.
        kind: `"filter"` or `"weight"`.
        features: Names of the state's features.
    """

    decisions: tuple[tuple[str, int], ...]
    metric: str
    limit: int | None
    reward: str
    kind: str
    features: tuple[str, ...]

    @staticmethod
    def of(env: AllocationEnv) -> LearntTask:
        """Returns the task of an environment; features without names are numbered."""
        problem = problem_of(env)
        decisions = tuple((decision.name, decision.size) for decision in problem.decisions)
        (count,) = env.observation_space.shape or (0,)
        features = getattr(env.unwrapped, "feature_names", tuple(f"feature {index}" for index in range(count)))
        reward = getattr(env.unwrapped, "reward_name", "")
        return LearntTask(decisions, problem.metric, problem.limit, reward, problem.kind, tuple(features))

    @staticmethod
    def from_dict(record: Mapping[str, Any]) -> LearntTask:
        """Reads what `dataclasses.asdict` and JSON have made of a task.

        Raises:
            CheckpointError: If it is of no kind of pruning, or a width or the budget's bound is no count.
            ConfigurationError: If the bound is no number.
        """
        if record["kind"] not in KINDS:
            raise CheckpointError(f"an agent must be of {' or '.join(KINDS)} pruning, not of {record['kind']!r}")
        decisions = tuple((str(name), int(size)) for name, size in record["decisions"])
        features = tuple(str(name) for name in record["features"])
        limit = convert(int | None, record["limit"], "limit")
        if min([size for _, size in decisions], default=1) < 1 or (limit is not None and limit < 0):
            raise CheckpointError("an agent's decisions must be at least 1 wide, and its limit must not be negative")
        return LearntTask(decisions, str(record["metric"]), limit, str(record["reward"]), str(record["kind"]), features)

    def same_network(self, other: LearntTask) -> bool:
        """Returns whether the decisions are the same, however they are judged."""
        return self.decisions == other.decisions

    def check_serves(self, other: LearntTask) -> None:
        """Checks that what was learnt here can be used in another task: the network and the budget may be others.

        Raises:
            CheckpointError: If the kind of pruning, the state or the reward differ.
        """
        if self.kind != other.kind:
            raise CheckpointError(
                f"the policy must be of {other.kind} pruning, as the task is, not of {self.kind} pruning; train one "
                f"with --pruning.family {other.kind}"
            )
        if self.features != other.features:
            raise CheckpointError(
                f"the policy must know the state of the task, {len(other.features)} features, not {len(self.features)}"
                f"{_difference(self.features, other.features)}; give the environment the features of the policy"
            )
        if self.reward != other.reward:
            raise CheckpointError(
                f"the policy must be trained for the reward of the task, {other.reward!r}, not {self.reward!r}; "
                f"use --reward {self.reward}, or train another policy"
            )


def best_for(known: Sequence[LearntTask], wanted: LearntTask) -> LearntTask:
    """Returns the task that has most in common with another: all of it, the network and the reward, or less."""
    return max(known, key=lambda task: (task == wanted, task.reward == wanted.reward, task.same_network(wanted)))


def _difference(known: tuple[str, ...], asked: tuple[str, ...]) -> str:
    """Describes which features are not shared."""
    different = [*(name for name in known if name not in asked), *(name for name in asked if name not in known)]
    return f" ({', '.join(different)} only in one)" if different else " in another order"
