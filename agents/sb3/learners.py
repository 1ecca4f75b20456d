"""TD3, SAC and PPO of Stable-Baselines3 on the pruning environment.

They see what DDPG sees and are used unchanged, so that the additions of the project's own DDPG (a shared baseline, the
episode as one example, the budget as a layer) can be judged against them. Actions are scaled to [-1, 1], as the library
recommends; returns are not discounted, since the only reward comes with the last step.
"""

from __future__ import annotations

import inspect
from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, get_type_hints

import numpy as np
from gymnasium.wrappers import RescaleAction
from stable_baselines3 import PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.noise import NormalActionNoise

from agents.agent_file import check_work, described
from agents.episodes import EpisodeLog
from agents.learner import Learner
from agents.learning import Policy
from agents.learnt_task import LearntTask
from agents.protocol import OnEpisode, SearchResult, check_episodes, problem_of
from agents.sb3.callback import EpisodeCallback
from agents.sb3.state import Sb3State, capture, restore
from amc.errors import ConfigurationError
from amc.utils.conversion import convert
from amc.utils.random_state import isolated_random_state

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agents.protocol import AllocationEnv


class Sb3Learner(Learner[Sb3State]):
    """An agent that is an algorithm of Stable-Baselines3.

    Subclasses build the algorithm; this class plays the episodes, each a candidate like any agent's.
    """

    plays_on: ClassVar[bool] = False
    """Whether it plays several episodes before it learns, so that it must be stopped after the last."""

    def search(
        self, env: AllocationEnv, episodes: int, *, seed: int, on_episode: OnEpisode | None = None
    ) -> SearchResult:
        """Learns for `episodes` episodes; see `Agent.search`.

        It starts from new networks, or from a loaded state, which then plays the first episode without noise.
        """
        check_episodes(episodes)
        decisions, log = len(problem_of(env).decisions), EpisodeLog(on_episode)
        if self.initial is not None:
            self.act(env, log)
        left = episodes - len(log.episodes)
        with isolated_random_state(seed):
            algorithm = self._made(env, seed)
            if left:
                callback = EpisodeCallback(log, episodes if self.plays_on else None)
                algorithm.learn(left * decisions, callback=callback, log_interval=None)  # type: ignore[arg-type]
            self.trained = Sb3State(self.name, self._options(), LearntTask.of(env), capture(algorithm))
        return log.result()

    def policy(self, env: AllocationEnv) -> Policy:
        """Returns what was learnt as a function; see `LearningAgent`."""
        with isolated_random_state(0):
            algorithm = self.extended()._made(env, 0)

        def ratio(observation: NDArray[np.float32]) -> float:
            action, _ = algorithm.predict(observation, deterministic=True)
            return (float(action[0]) + 1.0) / 2.0

        return ratio

    def extended(self) -> Sb3Learner:
        """Returns the agent that extends the last search: it starts from that search's final state."""
        agent = type(self)(**self._options())
        agent.initial = self.learnt()
        return agent

    def _made(self, env: AllocationEnv, seed: int) -> BaseAlgorithm:
        """Builds the algorithm, with the loaded state."""
        scaled: Any = RescaleAction(env, np.float32(-1.0), np.float32(1.0))
        algorithm = self.algorithm(scaled, len(problem_of(env).decisions), seed)
        if self.initial is not None:
            restore(algorithm, self.initial, LearntTask.of(env))
        return algorithm

    def _options(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    @abstractmethod
    def algorithm(self, env: AllocationEnv, decisions: int, seed: int) -> BaseAlgorithm:
        """Builds the algorithm.

        Args:
            env: The environment, its actions in [-1, 1].
            decisions: Steps of an episode.
            seed: Seed of everything random.
        """


class OffPolicyLearner(Sb3Learner):
    """A learner with a replay buffer, which learns after each episode, as many steps as it had."""

    def __init__(
        self, warmup_episodes: int = 20, learning_rate: float = 1e-3, batch_size: int = 64, gamma: float = 1.0
    ) -> None:
        """Takes the settings.

        Args:
            warmup_episodes: Episodes played at random. The next is played by the actor as it was made: it learns from
                then on, as Stable-Baselines3 has it.
            learning_rate: Learning rate of all that is learnt.
            batch_size: Transitions a gradient step.
            gamma: Discount factor.

        Raises:
            ConfigurationError: If a setting is out of its range.
        """
        _check_at_least(self.name, 1, warmup_episodes=warmup_episodes, batch_size=batch_size)
        _check_learning(self.name, learning_rate, gamma)
        self.warmup_episodes, self.learning_rate = warmup_episodes, learning_rate
        self.batch_size, self.gamma = batch_size, gamma

    def settings(self, decisions: int, seed: int) -> dict[str, Any]:
        """Returns what all off-policy algorithms of the library take.

        Args:
            decisions: Steps of an episode.
            seed: Seed of everything random.
        """
        return {
            "learning_rate": self.learning_rate,
            "learning_starts": 0 if self.initial else self.warmup_episodes * decisions,
            "batch_size": self.batch_size,
            "gamma": self.gamma,
            "train_freq": (1, "episode"),
            "gradient_steps": -1,
            "seed": seed,
            "device": "cpu",
        }


class Td3(OffPolicyLearner):
    """Twin delayed DDPG (Fujimoto et al. 2018, arXiv:1802.09477)."""

    name = "td3"

    def __init__(
        self,
        warmup_episodes: int = 20,
        learning_rate: float = 1e-3,
        noise: float = 0.2,
        batch_size: int = 64,
        gamma: float = 1.0,
    ) -> None:
        """Takes the settings.

        Args:
            warmup_episodes: Episodes played at random. The next is played by the actor as it was made: it learns from
                then on, as Stable-Baselines3 has it.
            learning_rate: Learning rate of the networks.
            noise: Standard deviation of the exploration noise, in actions from -1 to 1.
            batch_size: Transitions a gradient step.
            gamma: Discount factor.

        Raises:
            ConfigurationError: If a setting is out of its range.
        """
        super().__init__(warmup_episodes, learning_rate, batch_size, gamma)
        if noise < 0:
            raise ConfigurationError(f"{self.name}: noise must not be negative, not {noise}")
        self.noise = noise

    def algorithm(self, env: AllocationEnv, decisions: int, seed: int) -> BaseAlgorithm:
        """Builds TD3; see `Sb3Learner`."""
        noise = NormalActionNoise(np.zeros(1), np.full(1, self.noise))
        return TD3("MlpPolicy", env, action_noise=noise, **self.settings(decisions, seed))


class Sac(OffPolicyLearner):
    """Soft actor-critic (Haarnoja et al. 2018, arXiv:1812.05905), its temperature learnt."""

    name = "sac"

    def algorithm(self, env: AllocationEnv, decisions: int, seed: int) -> BaseAlgorithm:
        """Builds SAC; see `Sb3Learner`."""
        return SAC("MlpPolicy", env, **self.settings(decisions, seed))


class Ppo(Sb3Learner):
    """Proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347)."""

    name = "ppo"
    plays_on = True

    def __init__(
        self, rollout_episodes: int = 8, learning_rate: float = 1e-3, epochs: int = 10, gamma: float = 1.0
    ) -> None:
        """Takes the settings.

        Args:
            rollout_episodes: Episodes played between two updates, at least 2.
            learning_rate: Learning rate of the networks.
            epochs: Passes over the episodes of an update.
            gamma: Discount factor.

        Raises:
            ConfigurationError: If a setting is out of its range.
        """
        _check_at_least(self.name, 2, rollout_episodes=rollout_episodes)
        _check_at_least(self.name, 1, epochs=epochs)
        _check_learning(self.name, learning_rate, gamma)
        self.rollout_episodes, self.learning_rate = rollout_episodes, learning_rate
        self.epochs, self.gamma = epochs, gamma

    def algorithm(self, env: AllocationEnv, decisions: int, seed: int) -> BaseAlgorithm:
        """Builds PPO, whose updates see whole episodes in one batch; see `Sb3Learner`."""
        steps = self.rollout_episodes * decisions
        return PPO(
            "MlpPolicy",
            env,
            learning_rate=self.learning_rate,
            n_steps=steps,
            batch_size=steps,
            n_epochs=self.epochs,
            gamma=self.gamma,
            seed=seed,
            device="cpu",
        )


_LARGEST_RATE = 1e6
"""The largest learning rate: with a larger one the weights overflow."""


def load(path: str | Path) -> Sb3Learner:
    """Reads a trained learner; searches start from what it has learnt.

    Raises:
        CheckpointError: If the file cannot be read, or holds something else.
    """
    state = Sb3State.load(path)
    with described(path, "an agent"):
        learners: dict[str, type[Sb3Learner]] = {"td3": Td3, "sac": Sac, "ppo": Ppo}
        learner = learners[state.agent]
        hints = get_type_hints(learner.__init__)
        options = {name: convert(hints[name], value, name) for name, value in state.options.items()}
        agent = learner(**options)
        check_work(options)
    agent.initial = state
    return agent


def _check_at_least(agent: str, least: int, **counts: int) -> None:
    """Rejects counts below the least that a learner can use."""
    for name, count in counts.items():
        if count < least:
            raise ConfigurationError(f"{agent}: {name} must be at least {least}, not {count}")


def _check_learning(agent: str, rate: float, gamma: float) -> None:
    """Rejects learning rates with which nothing is learnt or weights overflow, and discount factors that are none."""
    if not 0 < rate <= _LARGEST_RATE:
        raise ConfigurationError(f"{agent}: learning_rate must be above 0 and at most {_LARGEST_RATE:g}, not {rate:g}")
    if not 0 <= gamma <= 1:
        raise ConfigurationError(f"{agent}: gamma must be in [0, 1], not {gamma}")
