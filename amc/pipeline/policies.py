"""What a trained agent does with a network at several budgets, without a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from agents.learning import Policy
from agents.learning import play_policy as play_policy_in
from agents.loading import load_agent
from agents.protocol import EpisodeResult
from amc.pipeline.deliver import Workshop
from amc.pipeline.search import SearchConfig, check_search, make_env
from amc.pipeline.task import Task, problem_at
from amc.problem import PruningProblem
from amc.problem.evaluator import EvaluatorProxy
from amc.problem.score import Score
from amc.structure import Allocation

_VALUES = 11


def problems_at(task: Task, metric: str, budgets: Sequence[float]) -> list[PruningProblem]:
    """Returns the problem of a task at each of some budgets.

    Args:
        task: The task.
        metric: What the budgets bound, such as `"flops"`.
        budgets: Shares kept of the dense cost.

    Raises:
        BudgetError: If a budget cannot be met.
    """
    return [problem_at(task, metric, budget) for budget in budgets]


def check_policy(problems: Sequence[PruningProblem], search: SearchConfig) -> None:
    """Raises what `play_policy` would raise, before work starts."""
    for problem in problems:
        check_search(problem, replace(search, episodes=0))


def play_policy(workshop: Workshop, problems: Sequence[PruningProblem], search: SearchConfig) -> list[EpisodeResult]:
    """Plays one episode without noise at each budget.

    Args:
        workshop: Scores the candidates.
        problems: The same decisions at each budget.
        search: Has the policy and the reward.

    Raises:
        CheckpointError: If the policy does not fit.
    """
    assert search.policy is not None
    agent = load_agent(search.policy)
    return [agent.act(make_env(problem, workshop.evaluator, search)) for problem in problems]


@dataclass(frozen=True)
class PolicyCurves:
    """What a policy does, without scoring any network.

    Attributes:
        decisions: Names of the decisions.
        ratios: By the share of the cost that is kept, the pruning ratio of every decision, `(decisions,)`.
        values: What a feature is set to, `(values,)`.
        responses: By feature, the mean pruning ratio that the policy asks for, over the states of all those episodes,
            when this feature alone is set to each of the values, `(values,)`.
    """

    decisions: tuple[str, ...]
    ratios: Mapping[float, tuple[float, ...]]
    values: NDArray[np.float32]
    responses: Mapping[str, NDArray[np.float64]]


def curves_of(workshop: Workshop, budgets: Sequence[float], metric: str, search: SearchConfig) -> PolicyCurves:
    """Plays a policy at several budgets, and asks what it would do if one feature had another value.

    Args:
        workshop: Has the network and its tables.
        budgets: Shares kept of the dense cost.
        metric: What they bound.
        search: Has the policy.

    Raises:
        CheckpointError: If the policy does not fit.
    """
    assert search.policy is not None
    agent, problems = load_agent(search.policy), problems_at(workshop.task, metric, budgets)
    ratios, seen = {}, []
    for budget, problem in zip(budgets, problems, strict=True):
        env = make_env(problem, _Unscored(workshop.evaluator), search)
        policy = agent.policy(env)

        def watched(observation: NDArray[np.float32], policy: Policy = policy) -> float:
            seen.append(observation.copy())
            return policy(observation)

        kept = problem.keep_ratios(problem.widths(play_policy_in(env, watched).allocation))
        ratios[budget] = tuple(1.0 - share for share in kept)
    values = np.linspace(0.0, 1.0, _VALUES, dtype=np.float32)
    names = agent.tasks[0].features
    return PolicyCurves(
        tuple(decision.name for decision in problems[0].decisions),
        ratios,
        values,
        {name: _response(policy, np.stack(seen), index, values) for index, name in enumerate(names)},
    )


def _response(
    policy: Policy, seen: NDArray[np.float32], index: int, values: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Returns the mean ratio over states when one feature is set to each of some values."""
    means = []
    for value in values:
        changed = seen.copy()
        changed[:, index] = value
        means.append(np.mean([policy(state) for state in changed]))
    return np.array(means)


class _Unscored(EvaluatorProxy):
    """Runs no network: to see what a policy does, no score is needed."""

    def score(self, allocation: Allocation) -> Score:
        return Score(0.0, 1.0, 0.0, images=1)
