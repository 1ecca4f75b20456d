"""The DDPG agent."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from agents.agent_file import read_record
from agents.ddpg.algorithm import AllocationDDPG
from agents.ddpg.config import DDPGConfig
from agents.ddpg.exploration import Schedule
from agents.ddpg.policy_state import POLICY_FORMAT, PolicyState
from agents.ddpg.state import TrainedState, capture, restore
from agents.episodes import EpisodeLog
from agents.guides import guides_of, heuristic
from agents.learner import Learner
from agents.learning import Policy
from agents.learnt_task import LearntTask
from agents.protocol import OnEpisode, SearchResult, check_episodes
from agents.sb3.callback import EpisodeCallback
from amc.errors import ConfigurationError
from amc.utils.random_state import isolated_random_state

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agents.protocol import AllocationEnv


class DDPGAgent(Learner[TrainedState | PolicyState]):
    """Learns a policy from layer states to pruning ratios.

    Deep deterministic policy gradient (Lillicrap et al., 2015, arXiv:1509.02971) as AMC uses it (He et al., 2018,
    arXiv:1802.03494, section 3.2); `DDPGConfig` lists the deviations.

    Attributes:
        config: The options.
    """

    name: ClassVar[str] = "ddpg"

    def __init__(self, config: DDPGConfig | None = None, initial: TrainedState | PolicyState | None = None) -> None:
        """Creates an agent.

        Args:
            config: The options; None for the defaults.
            initial: What a search starts from; None for new networks. With a state, the first episode is played without
                noise, and for the same task there is no warm-up (see `state.restore`).

        Raises:
            ConfigurationError: If `config.warm_start` names an agent that is not a heuristic.
        """
        self.config = DDPGConfig() if config is None else config
        for name in self.config.warm_start or ():
            heuristic(name, "ddpg")  # rejects wrong options before anything takes time
        self.initial = initial

    @property
    def plays_together(self) -> bool:
        """Whether it plays several episodes before it learns again."""
        return self.config.environments > 1

    def search(
        self, env: AllocationEnv, episodes: int, *, seed: int, on_episode: OnEpisode | None = None
    ) -> SearchResult:
        """Learns for `episodes` episodes; see `Agent.search`.

        Every call starts from `initial` again, so that the same seed plays the same episodes.

        Raises:
            ConfigurationError: If the episodes do not divide among the environments.
        """
        self.check_episodes(episodes)
        log = EpisodeLog(on_episode)
        with isolated_random_state(seed):
            algorithm = AllocationDDPG(env, self.config, self._schedule(env, episodes), seed)
            if self.initial is not None:
                restore(algorithm, self.initial.for_task(algorithm.task))
            steps = episodes * algorithm.decisions
            callback = EpisodeCallback(log, learning=algorithm.learning)
            algorithm.learn(steps, callback=callback, log_interval=None)  # type: ignore[arg-type]
            self.trained = capture(algorithm)
        return log.result()

    def extended(self) -> DDPGAgent:
        """Returns the agent that extends the last search: it starts from that search's final state."""
        return DDPGAgent(self.config, initial=self.learnt())

    def check_episodes(self, episodes: int) -> None:
        """Checks a number of episodes.

        Raises:
            ConfigurationError: If it is less than 1, or does not divide among the environments.
        """
        check_episodes(episodes)
        if episodes % self.config.environments:
            raise ConfigurationError(
                f"ddpg: episodes ({episodes}) must be divisible by environments ({self.config.environments}); use "
                f"{episodes + -episodes % self.config.environments}"
            )

    def _schedule(self, env: AllocationEnv, episodes: int) -> Schedule:
        if self.initial is not None and LearntTask.of(env) in self.initial.tasks:
            return Schedule.continued(self.config, episodes)
        start = Schedule.of_search if self.initial is None else Schedule.transferred
        return start(self.config, episodes, guides(env, self.config))

    def policy(self, env: AllocationEnv) -> Policy:
        """Returns the trained actor as a function; see `LearningAgent`."""
        with isolated_random_state(0):
            alone = replace(self.config, environments=1)
            algorithm = AllocationDDPG(env, alone, Schedule.continued(alone, 1), seed=0)
            restore(algorithm, self.learnt().for_task(algorithm.task))
        return algorithm.ratio

    @classmethod
    def load(cls, path: str | Path) -> DDPGAgent:
        """Reads an agent that `save` wrote, or one of `amc train`; searches continue from what it has learnt.

        Raises:
            CheckpointError: If the file cannot be read, or holds something else.
        """
        is_policy = read_record(path)["format"] == POLICY_FORMAT
        state = PolicyState.load(path) if is_policy else TrainedState.load(path)
        return cls(state.config, initial=state)


def load(path: str | Path) -> DDPGAgent:
    """Reads a trained agent to search with; it plays one episode at a time, as its first is without noise."""
    agent = DDPGAgent.load(path)
    return DDPGAgent(replace(agent.config, environments=1), agent.initial)


def guides(env: AllocationEnv, config: DDPGConfig) -> list[NDArray[np.float64]]:
    """Returns the pruning ratios of the heuristics that are played first; see `agents.guides.guides_of`.

    Raises:
        ConfigurationError: If a requested one needs something that the evaluator does not know.
    """
    return guides_of(env, config.warm_start, "ddpg")


def create(preset: Literal["default", "paper"] = "default", **options: Any) -> DDPGAgent:
    """Creates an agent from the fields of `DDPGConfig`.

    Args:
        preset: What the options change: `"default"` for short searches, or `"paper"` for the settings of the AMC paper.
        **options: Fields of `DDPGConfig`.

    Raises:
        ConfigurationError: If there is no such preset, or an option cannot be used.
    """
    if preset not in ("default", "paper"):
        raise ConfigurationError(f"ddpg: preset must be 'default' or 'paper', not {preset!r}")
    return DDPGAgent(replace(DDPGConfig.paper() if preset == "paper" else DDPGConfig(), **options))


# Option checks and help see every option by name, and help what it says.
create.settings = DDPGConfig  # type: ignore[attr-defined]
create.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [
        inspect.signature(create, eval_str=True).parameters["preset"],
        *inspect.signature(DDPGConfig, eval_str=True).parameters.values(),
    ]
)
