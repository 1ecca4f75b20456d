"""What an agent's experience is about, so that it is not taken for that of another task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agents.protocol import problem_of

if TYPE_CHECKING:
    from agents.protocol import AllocationEnv


@dataclass(frozen=True)
class LearntTask:
    """The decisions that an agent made, and what they were judged by.

    Weights and data are not part of it: whoever changes them starts from nothing, or knows what stays comparable.

    Attributes:
        decisions: Name and dense width of every decision.
        metric: Name of the cost that the budget bounds.
        limit: The largest cost within the budget; None without a budget.
        reward: Name of the reward.
    """

    decisions: tuple[tuple[str, int], ...]
    metric: str
    limit: int | None
    reward: str

    @staticmethod
    def of(env: AllocationEnv) -> LearntTask:
        """Returns the task of an environment."""
        problem = problem_of(env)
        decisions = tuple((decision.name, decision.size) for decision in problem.decisions)
        return LearntTask(decisions, problem.metric, problem.limit, getattr(env.unwrapped, "reward_name", ""))

    @staticmethod
    def from_dict(record: Mapping[str, Any]) -> LearntTask:
        """Reads what `dataclasses.asdict` and JSON have made of a task."""
        decisions = tuple((str(name), int(size)) for name, size in record["decisions"])
        return LearntTask(decisions, record["metric"], record["limit"], record["reward"])

    def same_network(self, other: LearntTask) -> bool:
        """Tells whether the decisions are the same, whatever they are judged by."""
        return self.decisions == other.decisions
