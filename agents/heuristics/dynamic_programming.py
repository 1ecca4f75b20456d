"""The allocation of the smallest total error, by dynamic programming."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from agents.heuristics.base import Planner
from agents.protocol import evaluator_of, problem_of
from amc.problem.least_error import least_error_widths

if TYPE_CHECKING:
    from agents.protocol import AllocationEnv


class DynamicProgramming(Planner):
    """Minimises the sum of the layers' errors under the budget (SPDY, arXiv:2201.13096); see `least_error_widths`."""

    name: ClassVar[str] = "dp"

    def plan(self, env: AllocationEnv, episodes: int) -> tuple[int, ...]:
        """Returns the widths of the smallest total error; see `Planner.plan`."""
        problem = problem_of(env)
        return problem.max_widths if problem.limit is None else least_error_widths(problem, evaluator_of(env).errors())
