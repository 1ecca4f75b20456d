"""The search: an agent plays the environment, starting with the episodes of an earlier start if there are some."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import gymnasium

import envs
from agents import AGENTS, Agent, EpisodeResult, SearchResult, check_plan, create_agent
from agents.episodes import EpisodeLog
from agents.heuristics.base import Planner
from agents.learning import LearningAgent
from agents.learnt_task import LearntTask, best_for
from agents.loading import load_agent
from agents.protocol import OnEpisode
from amc.cluster.cluster import check_cluster
from amc.costs import Budget
from amc.errors import ConfigurationError
from amc.pipeline.agent_card import search_card
from amc.pipeline.criterion_check import check_ranking
from amc.pipeline.finalists import choose
from amc.pipeline.racing import RacingEvaluator, reward_of
from amc.pipeline.recorded_scores import RecordedScores
from amc.pipeline.recorder import Recorder
from amc.pipeline.task import Task
from amc.pipeline.timed_evaluator import TimedEvaluator
from amc.problem import PruningProblem
from amc.problem.evaluator import Evaluator, as_evaluator
from amc.problem.score import Score
from amc.pruning.schedules import SCHEDULES
from amc.runtime import resolve_device, resolve_dtype
from amc.runtime.freed_memory import freed_memory_kept
from amc.structure import Allocation
from amc.utils.conversion import check_seed, conform
from amc.utils.options import Chosen, create, spell
from amc.utils.stopping import deferring_stops, stop_here
from envs.extra_features import EXTRA_FEATURES
from envs.observation import feature_names
from envs.rewards import Reward, as_reward, is_budget_free

_ENVIRONMENTS = {"filter": envs.FILTER_PRUNING, "weight": envs.WEIGHT_PRUNING}


@dataclass(frozen=True)
class SearchConfig:
    """How a policy is looked for, and in which rounds it is carried out.

    Attributes:
        agent: What looks for the policy, such as `"ddpg"`, `"cem:population=8"` or `{"name": "cem", "population": 8}`.
        episodes: Candidates that the agent may try.
        reward: Name of the reward, or a function of an `envs.rewards.Outcome`.
        allocation_mode: `"clip"` or `"project"`; see `envs.pruning_env`.
        seed: Seed of the agent.
        first_images: Images of the search split on which a candidate is scored first, those on which its batch norms
            are re-estimated at least; it sees the rest only while it can still be the best (see
            `amc.pipeline.racing`). None scores every candidate on all.
        dtype: Number format in which candidates are scored: `"auto"` (bfloat16 where the device gains from it),
            `"float32"` or `"bfloat16"`.
        schedule: In which rounds the network is pruned and trained: a name in `amc.pruning.schedules`, with options as
            in `"iterative:count=5"`. Those that train networks from scratch use the settings of the dense training.
        deterministic: Whether the run must not depend on the number of threads, nor vary between runs on a GPU as far
            as PyTorch has such algorithms; the CPU then computes with one thread.
        features: What the agent sees in addition to the paper's 11 features; names in `envs.extra_features`.
        policy: File of a trained agent (`agent.safetensors`): it plays one episode without noise, then `episodes`
            candidates from there. It decides agent and features.
        untrained: Whether to go ahead with a dense network that is no better than chance.
        cluster: Where candidates are scored that the agent plays side by side: `"local"` for the processors of this
            machine, or the address of a Ray cluster, such as `"head:6379"`; None for this process alone. The results
            are the same; an `evaluate` of your own must not remember earlier calls then. Needs
            `pip install 'amc-compress[cluster]'`.
        workers: How many workers the cluster has for them, each with the network; None for as many as there are
            processors, or GPUs.

    Raises:
        UnknownNameError: If the agent, the reward, a feature, the mode or the schedule does not exist.
        ConfigurationError: If an option, or one of theirs, has the wrong type or is out of its range.
        CheckpointError: If the policy cannot be read.
        ClusterError: If a cluster is named and Ray is not installed.
    """

    agent: Chosen = "ddpg"
    episodes: int = 100
    reward: Chosen | Reward = "accuracy"
    allocation_mode: Literal["clip", "project"] = "clip"
    seed: int = 0
    first_images: int | None = None
    dtype: str = "auto"
    schedule: Chosen = "one_shot"
    deterministic: bool = False
    features: tuple[str, ...] = ()
    policy: str | Path | None = None
    untrained: bool = False
    cluster: str | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        """Checks the options, and writes agent, schedule and policy as text."""
        if isinstance(self.policy, Path):
            object.__setattr__(self, "policy", str(self.policy))
        object.__setattr__(self, "agent", spell(AGENTS, self.agent))
        object.__setattr__(self, "schedule", spell(SCHEDULES, self.schedule))
        create(SCHEDULES, self.schedule)
        as_reward(self.reward)
        conform(self)
        check_seed(self.seed)
        check_cluster(self.cluster, self.workers)
        for name in self.features:
            EXTRA_FEATURES.get(name)
        if self.policy is not None:
            self._take_from_policy(load_agent(self.policy))
        resolve_dtype(self.dtype, resolve_device("cpu"))
        if self.first_images is not None and self.first_images < 1:
            raise ConfigurationError(f"first_images must be at least 1, not {self.first_images}; leave it out for all")
        if self.policy is None:
            check_plan(create_agent(self.agent), self.episodes)
        elif self.episodes < 0:
            raise ConfigurationError(f"episodes must be 0 or more with a policy, not {self.episodes}")

    def _take_from_policy(self, agent: LearningAgent) -> None:
        """Takes the agent and the features of a trained policy, and rejects others.

        Raises:
            ConfigurationError: If another agent or other features are asked for.
        """
        known = agent.tasks[0].features[len(feature_names()) :]
        if self.agent not in (agent.name, SearchConfig.agent):
            raise ConfigurationError(
                f"the policy was trained by {agent.name}, so that the agent cannot be {self.agent!r}; leave it out"
            )
        if self.features not in ((), known):
            raise ConfigurationError(
                f"the features must be those of the policy, {', '.join(known) or 'none'}, not "
                f"{', '.join(self.features)}; leave them out"
            )
        object.__setattr__(self, "agent", agent.name)
        object.__setattr__(self, "features", known)

    @property
    def candidates(self) -> int:
        """How many episodes are played: with a policy one more, played first and without noise."""
        return self.episodes + (self.policy is not None)

    def create_agent(self) -> Agent:
        """Returns the agent: a new one, or the trained policy."""
        return create_agent(self.agent) if self.policy is None else load_agent(self.policy)


def default_budget(reward: Chosen | Reward) -> Budget | None:
    """Returns the budget where none is given: half the FLOPs, or no bound for the accuracy-guaranteed rewards.

    Raises:
        UnknownNameError: If the reward does not exist.
    """
    return None if is_budget_free(reward) else Budget(flops=0.5)


def make_env(problem: PruningProblem, evaluator: Evaluator, config: SearchConfig) -> gymnasium.Env[Any, Any]:
    """Builds the environment of a problem.

    Raises:
        ConfigurationError: If the reward needs a budget and there is none.
    """
    return gymnasium.make(
        _ENVIRONMENTS[problem.kind],
        problem=problem,
        evaluator=evaluator,
        reward=config.reward,
        allocation_mode=config.allocation_mode,
        features=config.features,
        disable_env_checker=True,
    )


def check_search(problem: PruningProblem, config: SearchConfig, task: Task | None = None) -> None:
    """Raises what `search_policy` would raise for a search that does not fit its problem, before work starts.

    Args:
        problem: The problem.
        config: The search.
        task: The network and its data, which have to have what the agent looks at; None where that was checked.
    """
    agent = config.create_agent()
    check_plan(agent, config.candidates, problem)
    if task is not None:
        check_ranking(agent, task, problem)
    check_fits(problem, config, agent)


def check_fits(problem: PruningProblem, config: SearchConfig, agent: Agent) -> None:
    """Checks that an agent can play the environment of a search; network and budget may differ from its training.

    Raises:
        CheckpointError: If it was trained on another kind of pruning, state or reward.
    """
    env = make_env(problem, as_evaluator(_no_score), config)
    if isinstance(agent, LearningAgent) and agent.tasks:
        best_for(agent.tasks, LearntTask.of(env)).check_serves(LearntTask.of(env))


def search_policy(
    problem: PruningProblem,
    evaluator: Evaluator,
    config: SearchConfig,
    recorder: Recorder | None = None,
    *,
    agent: Agent | None = None,
    ends: Sequence[int] = (),
    network: str = "",
) -> SearchResult:
    """Searches for the allocation with the highest reward.

    Recorded episodes are replayed with their scores, without running the network, so that a killed search ends as if it
    had not been disturbed. Where candidates race (`config.first_images`), the best few are scored on the whole search
    split before the best of them is returned.

    Args:
        problem: Decisions, costs and budget.
        evaluator: Scores the networks that allocations describe.
        config: Agent, reward and seed.
        recorder: Records every episode.
        agent: Plays in place of a new agent made from `config`.
        ends: Total number of episodes after the search and after each of its extensions, rising; one search of
            `config.candidates` if empty. An extension starts from what the agent has learnt, or with the next seed.
        network: Name of the network, for the card of an agent that has learnt.

    Raises:
        ConfigurationError: If the reward needs a budget and there is none.
    """
    recorder = recorder or Recorder()
    title = f"search ({config.agent if agent is None else agent.name})"
    agent = agent or config.create_agent()
    value = reward_of(problem, config.reward)
    race = None if config.first_images is None else RacingEvaluator(evaluator, problem, value, config.first_images)
    replay = _Replay(race or evaluator, recorder.recorded_episodes(), race)
    timed = TimedEvaluator(replay)
    env = make_env(problem, timed, config)
    _say_if_alone(agent, timed, recorder)
    best, ends = float("-inf"), ends or (config.candidates,)
    count = 1 if isinstance(agent, Planner) else ends[-1]
    with recorder.stage(title, count, "episodes") as advance:

        def on_episode(result: EpisodeResult) -> None:
            nonlocal best
            best = max(best, result.reward)
            recorder.on_episode(replay.as_recorded(replace(result, scoring_seconds=timed.take_seconds())))
            stop_here()
            advance((result.episode + 1) / count, f"reward {result.reward:.4f}, best {best:.4f}")

        with deferring_stops(), freed_memory_kept():
            agent, played = _play(agent, env, config.seed, ends, on_episode)
    episodes = [replay.as_recorded(result) for result in played]
    if isinstance(agent, LearningAgent):
        recorder.on_agent(agent.save, search_card(agent, problem, network, episodes, config.seed))
    known = SearchResult(max(episodes, key=lambda result: result.reward), episodes)
    return known if isinstance(agent, Planner) else replace(known, best=choose(known, evaluator, value, recorder))


def _say_if_alone(agent: Agent, evaluator: Evaluator, recorder: Recorder) -> None:
    """Says that workers are of no use to an agent that plays one candidate after the other."""
    if evaluator.side_by_side > 1 and not getattr(agent, "plays_together", isinstance(agent, Planner)):
        recorder.say(
            f"{agent.name} plays one candidate after the other, for which workers are of no use: random, cem and cmaes "
            "play many side by side, and ddpg does with 'ddpg:environments=N'"
        )


def _play(
    agent: Agent, env: gymnasium.Env[Any, Any], seed: int, ends: Sequence[int], on_episode: OnEpisode
) -> tuple[Agent, list[EpisodeResult]]:
    """Plays a search and its extensions; returns the last one's agent, and all episodes, numbered consecutively."""
    episodes: list[EpisodeResult] = []
    for leg, end in enumerate(ends):
        first = len(episodes)

        def report(result: EpisodeResult, first: int = first) -> None:
            on_episode(replace(result, episode=first + result.episode))

        if leg:
            agent = agent.extended() if hasattr(agent, "extended") else agent
        count = end - (ends[leg - 1] if leg else 0)
        outcome = _outcome(agent, env, count, seed + leg, report)
        episodes += [replace(result, episode=first + result.episode) for result in outcome.episodes]
    return agent, episodes


def _outcome(
    agent: Agent, env: gymnasium.Env[Any, Any], episodes: int, seed: int, on_episode: OnEpisode
) -> SearchResult:
    """Searches; a trained agent with a single episode plays it without learning."""
    if episodes == 1 and isinstance(agent, LearningAgent) and agent.tasks:
        result = agent.act(env, log := EpisodeLog(on_episode))
        return SearchResult(result, log.episodes)
    outcome = agent.search(env, episodes, seed=seed, on_episode=on_episode)
    if not isinstance(outcome, SearchResult):  # of the user's own
        raise ConfigurationError(
            f"an agent's search must return a SearchResult, such as EpisodeLog.result(), not {outcome!r}; "
            "docs/extend.md has an example"
        )
    return outcome


class _Replay(RecordedScores):
    """Replays the episodes that an earlier start has played."""

    def __init__(
        self, evaluator: Evaluator, recorded: Sequence[EpisodeResult], race: RacingEvaluator | None = None
    ) -> None:
        super().__init__(evaluator, race, {result.allocation.key(): result.score for result in recorded})
        self._recorded = {result.episode: result for result in recorded}

    def as_recorded(self, result: EpisodeResult) -> EpisodeResult:
        """Returns an episode with the time that it took at first; warns once if the search takes another path."""
        earlier = self._recorded.get(result.episode)
        if earlier is None:
            return result
        if earlier.allocation.key() == result.allocation.key():
            return replace(result, seconds=earlier.seconds)
        warnings.warn(
            f"episode {result.episode} differs from the recorded one (another version or device?); "
            "the search continues from there without the record",
            RuntimeWarning,
            stacklevel=2,
        )
        self._recorded = {number: known for number, known in self._recorded.items() if number < result.episode}
        return result


def _no_score(allocation: Allocation) -> Score:
    raise AssertionError("nothing is scored while options are checked")
