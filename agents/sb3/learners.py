"""TD3, SAC and PPO of Stable-Baselines3 on the pruning environment.

They see what DDPG sees, and are none of our making: what the project's own DDPG adds (a shared baseline, the episode
as one example, the budget as a layer) can be judged against them. Actions are scaled to [-1, 1], as the library
recommends; returns are not discounted, since the only reward comes with the last step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from gymnasium.wrappers import RescaleAction
from stable_baselines3 import PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.noise import NormalActionNoise

from agents.episodes import EpisodeLog
from agents.protocol import OnEpisode, SearchResult, check_episodes, problem_of
from agents.sb3.callback import EpisodeCallback
from amc.errors import ConfigurationError
from amc.utils.random_state import isolated_random_state

if TYPE_CHECKING:
    from agents.protocol import AllocationEnv


class Sb3Learner(ABC):
    """An agent that is an algorithm of Stable-Baselines3.

    Subclasses build the algorithm; this class plays the episodes, each a candidate like any agent's.
    """

    name: ClassVar[str]

    def search(
        self, env: AllocationEnv, episodes: int, *, seed: int, on_episode: OnEpisode | None = None
    ) -> SearchResult:
        """Learns for `episodes` episodes, from new networks; see `Agent.search`."""
        check_episodes(episodes)
        decisions, log = len(problem_of(env).decisions), EpisodeLog(on_episode)
        scaled: Any = RescaleAction(env, np.float32(-1.0), np.float32(1.0))
        with isolated_random_state(seed):
            algorithm = self.algorithm(scaled, decisions, seed)
            # A learner that plays several episodes before it learns may be asked for fewer: the callback ends it.
            algorithm.learn(episodes * decisions, callback=EpisodeCallback(log, episodes), log_interval=None)  # type: ignore[arg-type]
        return log.result()

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
            warmup_episodes: Episodes played at random before anything is learnt.
            learning_rate: Learning rate of all that is learnt.
            batch_size: Transitions a gradient step.
            gamma: Discount factor.

        Raises:
            ConfigurationError: If a setting is out of its range.
        """
        _check(self.name, warmup_episodes=warmup_episodes, learning_rate=learning_rate, batch_size=batch_size)
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
            "learning_starts": self.warmup_episodes * decisions,
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
            warmup_episodes: Episodes played at random before anything is learnt.
            learning_rate: Learning rate of the networks.
            noise: Standard deviation of the exploration noise, in actions from -1 to 1.
            batch_size: Transitions a gradient step.
            gamma: Discount factor.

        Raises:
            ConfigurationError: If a setting is out of its range.
        """
        super().__init__(warmup_episodes, learning_rate, batch_size, gamma)
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
        _check(self.name, rollout_episodes=rollout_episodes - 1, learning_rate=learning_rate, epochs=epochs)
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


def _check(agent: str, **settings: float) -> None:
    """Rejects settings that are not above 0."""
    for name, value in settings.items():
        if value <= 0:
            least = {"rollout_episodes": "at least 2", "learning_rate": "above 0"}.get(name, "at least 1")
            raise ConfigurationError(f"{agent}: {name} must be {least}")
