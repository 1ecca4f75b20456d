"""What a trained agent makes of a network, at one budget after another, without any search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from agents.loading import load_agent
from agents.protocol import EpisodeResult
from amc.costs import Budget
from amc.pipeline.deliver import Workshop
from amc.pipeline.search import SearchConfig, check_search, make_env
from amc.pipeline.task import Task, build_problem
from amc.problem import PruningProblem
from amc.structure import Allocation


def problems_at(task: Task, metric: str, budgets: Sequence[float]) -> list[PruningProblem]:
    """Returns the problem of a task at each of some budgets.

    Args:
        task: The task.
        metric: What the budgets bound, such as `"flops"`.
        budgets: Shares kept of the dense cost.

    Raises:
        BudgetError: If a budget cannot be met.
    """
    return [build_problem(task.structure, Budget(**{metric: budget}), task.pruning) for budget in budgets]


def check_policy(problems: Sequence[PruningProblem], search: SearchConfig) -> None:
    """Raises what `play_policy` would raise, before anything takes time."""
    for problem in problems:
        check_search(problem, replace(search, episodes=0))


def play_policy(workshop: Workshop, problems: Sequence[PruningProblem], search: SearchConfig) -> list[EpisodeResult]:
    """Lets a policy play one episode without noise at each budget.

    Args:
        workshop: Scores the candidates.
        problems: The same decisions at each budget.
        search: Bears the policy and the reward.

    Raises:
        CheckpointError: If the policy does not fit.
    """
    assert search.policy is not None
    agent = load_agent(search.policy)
    return [agent.act(make_env(problem, workshop.evaluator, search)) for problem in problems]


def keep_ratios(problem: PruningProblem, allocation: Allocation) -> tuple[float, ...]:
    """Returns what an allocation keeps of every decision, as a share."""
    return problem.keep_ratios(problem.widths(allocation))
