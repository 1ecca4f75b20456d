"""The interface of agents, and the result of a search."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from amc.errors import ConfigurationError
from amc.utils.conversion import convert

if TYPE_CHECKING:
    import gymnasium
    import numpy as np
    from numpy.typing import NDArray

    from amc.problem import PruningProblem
    from amc.problem.evaluator import Evaluator
    from amc.problem.score import Score
    from amc.structure import Allocation

    AllocationEnv: TypeAlias = gymnasium.Env[NDArray[np.float32], NDArray[np.float32]]


@dataclass(frozen=True)
class Learning:
    """What an agent has learnt by the end of an episode, which it has not learnt from yet.

    Attributes:
        actor_loss: Of the last gradient step; None before the first.
        critic_loss: The same.
        ratios: The pruning ratios that the actor gives without noise, before the environment bounds them, one a
            decision; empty before the first gradient step.
    """

    actor_loss: float | None = None
    critic_loss: float | None = None
    ratios: tuple[float, ...] = ()


@dataclass(frozen=True)
class EpisodeResult:
    """One walk through the network, and what its allocation earned.

    Attributes:
        episode: Number of the episode within the search, from 0.
        allocation: The widths that were applied.
        reward: The reward of the whole allocation, as the environment gave it on the last step.
        score: What the evaluator measured.
        costs: What the pruned network costs, by metric: `"flops"` (one fused multiply-add is one), `"params"`, ...
        seconds: Wall time since the previous episode ended, the agent's own work included; of episodes that were
            played side by side, the equal share.
        learning: What the agent had learnt; None for agents that do not say.
        scoring_seconds: How many of the seconds the network was scored; None where that was not measured.
    """

    episode: int
    allocation: Allocation
    reward: float
    score: Score
    costs: Mapping[str, int | float]
    seconds: float
    learning: Learning | None = field(default=None, compare=False)
    scoring_seconds: float | None = field(default=None, compare=False)


@dataclass(frozen=True)
class SearchResult:
    """The result of a search.

    Attributes:
        best: The episode with the highest reward; the first of equals.
        episodes: All episodes, in the order in which they were played.
    """

    best: EpisodeResult
    episodes: list[EpisodeResult]


OnEpisode: TypeAlias = Callable[[EpisodeResult], None]
"""Called once an episode, in order, as soon as the reward is known of all that are played side by side."""


class Agent(Protocol):
    """Searches allocations in an environment.

    An agent is deterministic given the seed and the rewards that it receives: the same search with the same seed
    plays the same episodes. It depends neither on wall time nor on global random state, and leaves the latter
    untouched. A search is resumed by playing it again from the start over recorded rewards.

    Attributes:
        name: The agent's name in the registry.

    Example:
        >>> import amc, torch
        >>> from agents import create_agent
        >>> from amc.problem import filter_problem
        >>> from amc.problem.score import Score
        >>> from amc.tracing.trace import trace_structure
        >>> from envs.pruning_env import FilterPruningEnv
        >>> structure = trace_structure(amc.create_model("resnet20", seed=0), torch.zeros(1, 3, 32, 32))
        >>> problem = filter_problem(structure, amc.Budget(flops=0.5))
        >>> env = FilterPruningEnv(problem, lambda allocation: Score(90.0, cross_entropy=0.3))
        >>> create_agent("uniform").search(env, 1, seed=0).best.score.accuracy
        90.0
    """

    name: str

    def search(
        self, env: AllocationEnv, episodes: int, *, seed: int, on_episode: OnEpisode | None = None
    ) -> SearchResult:
        """Plays episodes and returns them.

        Args:
            env: The environment; `env.unwrapped.problem` is the `PruningProblem` that it walks through.
            episodes: How many episodes to play, at least 1. Heuristics play one regardless.
            seed: Seed of everything random.
            on_episode: Called after each episode.

        Returns:
            The episodes and the best of them.

        Raises:
            ConfigurationError: If `episodes` is less than 1.
        """
        ...


def problem_of(env: AllocationEnv) -> PruningProblem:
    """Returns the problem that an environment walks through.

    Raises:
        ConfigurationError: If the environment shows none, or is wrapped so that its actions are not pruning ratios.
    """
    problem: PruningProblem | None = getattr(env.unwrapped, "problem", None)
    if problem is None:
        raise ConfigurationError(
            f"an agent needs an environment with an attribute 'problem', which {env.unwrapped!r} lacks; "
            "use one of the AMC/... environments"
        )
    space: Any = env.action_space
    if (float(space.low.min()), float(space.high.max()), space.shape) != (0.0, 1.0, (1,)):
        raise ConfigurationError(
            f"the agents of amc act in pruning ratios, Box(0, 1, (1,)), and this environment takes {space}; give them "
            "the environment without the wrapper that changes its actions"
        )
    return problem


def evaluator_of(env: AllocationEnv) -> Evaluator:
    """Returns the evaluator of an environment, for agents that look at saliencies, errors or scores of their own.

    Raises:
        ConfigurationError: If the environment shows none.
    """
    evaluator: Evaluator | None = getattr(env.unwrapped, "evaluator", None)
    if evaluator is None:
        raise ConfigurationError(
            f"this agent needs an environment with an attribute 'evaluator', which {env.unwrapped!r} lacks; "
            "use one of the AMC/... environments, or an agent that needs none, such as 'uniform'"
        )
    return evaluator


def check_plan(agent: Agent, episodes: int, problem: PruningProblem | None = None) -> None:
    """Checks a number of episodes before a search takes time.

    Agents with rules of their own have a method `check_episodes(episodes)`, or `check_problem(problem, episodes)` for
    what depends on the problem. One that looks at saliencies has `criterion_for(kind)`, so that the pipeline can check
    beforehand that the network and the data have what this criterion needs.

    Raises:
        ConfigurationError: If the agent cannot play that many.
    """
    getattr(agent, "check_episodes", check_episodes)(episodes)
    if problem is not None and hasattr(agent, "check_problem"):
        agent.check_problem(problem, episodes)


def check_episodes(episodes: int) -> None:
    """Checks the number of episodes.

    Raises:
        ConfigurationError: If it is not a whole number, or less than 1.
    """
    convert(int, episodes, "episodes")
    if episodes < 1:
        raise ConfigurationError(f"a search needs at least 1 episode, not {episodes}; raise --episodes")
