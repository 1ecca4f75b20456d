"""A policy that was found before, played again."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from agents.heuristics.base import Planner
from agents.protocol import problem_of
from amc.problem.edited_policy import checked_policy
from amc.storage.policy import read_policy

if TYPE_CHECKING:
    from pathlib import Path

    from agents.protocol import AllocationEnv


class PolicyFile(Planner):
    """Plays what a `policy.json` keeps, scaled to the budget where the budget is another one.

    A policy at the budget is played as it is. What it does not name stays dense before scaling. A policy whose pruning
    ratios contradict its widths is rejected.
    """

    name: ClassVar[str] = "policy"

    def __init__(self, file: str | Path) -> None:
        """Reads the file.

        Args:
            file: A policy.json, as `amc search` and `amc compress` write it.

        Raises:
            ConfigurationError: If it is missing or malformed.
        """
        self.policy = read_policy(file)

    def plan(self, env: AllocationEnv, episodes: int) -> tuple[int, ...]:
        """Returns the policy's widths, scaled to the budget; see `Planner.plan`.

        Raises:
            ConfigurationError: If the policy does not fit the network, or contradicts itself.
        """
        problem = problem_of(env)
        widths = problem.widths(checked_policy(self.policy, problem, exactly=False))
        if problem.limit is None:
            return widths
        bounds = zip(problem.min_widths, widths, problem.max_widths, strict=True)
        inside = all(low <= width <= high for low, width, high in bounds)
        if inside and problem.cost(widths) <= problem.limit and problem.fill(widths) == widths:
            return widths
        return problem.project(problem.keep_ratios(widths))
