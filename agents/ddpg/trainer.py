"""Training one policy over several tasks: networks, budgets and rewards at once.

All tasks share the actor. Each has a critic of whole allocations, as networks differ in length, and its own episodes in
the replay, whose rewards are standardised among themselves, so that no task outweighs another. After every episode its
critic learns, and then the actor, from the critics of several tasks at once: on the observations of their episodes, and
on those that it meets itself when it walks without noise, which is what it is used for.

Everything random in episode k comes from generators that are seeded with the training's seed and k, so that a training
continues from its checkpoint to the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from agents.ddpg.agent import guides
from agents.ddpg.algorithm import AllocationDDPG
from agents.ddpg.config import DDPGConfig
from agents.ddpg.episode_learner import FIRST_STEPS, gradient_step
from agents.ddpg.exploration import Schedule
from agents.ddpg.policy_state import PolicyState
from agents.ddpg.state import capture, restore
from agents.episodes import EpisodeLog
from agents.keep_scale import LINEAR
from agents.learning import play_policy
from agents.sb3.callback import EpisodeCallback
from amc.errors import ConfigurationError
from amc.utils.random_state import isolated_random_state

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agents.protocol import AllocationEnv, EpisodeResult

_TOGETHER = 4  # tasks whose critics enter a gradient step of the actor
_RECENT = 5  # episodes that show how well a task is played
_EVEN = 0.5  # share of the draws that treat all tasks alike


def check_for_several_tasks(config: DDPGConfig) -> None:
    """Checks that an agent with these options can be trained over several tasks.

    Raises:
        ConfigurationError: If it cannot.
    """
    if config.critic != "episode" or config.environments != 1:
        raise ConfigurationError("amc train needs ddpg with critic=episode and environments=1; leave both out")


class PolicyTrainer:
    """Trains one actor in several environments.

    Attributes:
        config: The options.
        episode: Number of the next episode.
        played: By the name of each task, how many episodes were played.
    """

    def __init__(
        self,
        envs: Mapping[str, AllocationEnv],
        config: DDPGConfig,
        *,
        episodes: int,
        seed: int,
        state: PolicyState | None = None,
    ) -> None:
        """Builds networks and replays.

        Args:
            envs: The environments by the names of their tasks; of one kind of pruning, one state.
            config: The options.
            episodes: Total number of planned episodes; the noise decays accordingly.
            seed: Seed of everything random.
            state: What an earlier start has learnt, of the same tasks in the same order.

        Raises:
            ConfigurationError: If an option does not work with several tasks.
            CheckpointError: If the state does not fit.
        """
        check_for_several_tasks(config)
        self.config, self._seed = config, seed
        share = max(1, episodes // len(envs))
        self._learners: dict[str, TaskDDPG] = {}
        for index, (name, env) in enumerate(envs.items()):
            schedule = Schedule.of_search(config, share, guides(env, config))
            with isolated_random_state(seed + index):
                self._learners[name] = TaskDDPG(env, config, schedule, seed + index)
        team = list(self._learners.values())
        scale = next((learner.scale for learner in team if learner.scale != LINEAR), LINEAR)
        for learner in team:
            learner.join(team)
            learner.take_scale(scale)  # one actor, one scale, whatever the budgets suggest
        self.played = dict.fromkeys(envs, 0)
        if state is not None:
            self._restore(state)

    @property
    def episode(self) -> int:
        """Number of the next episode."""
        return sum(self.played.values())

    def play(self) -> tuple[str, EpisodeResult]:
        """Plays one episode of the task whose turn it is, and learns from it.

        Returns:
            The name of the task, and the episode, numbered within the training.
        """
        generator = np.random.default_rng([self._seed, self.episode])
        name = self._next(generator)
        learner = self._learners[name]
        learner.generator = generator
        log = EpisodeLog()
        with isolated_random_state(int(generator.integers(2**31))):
            callback = EpisodeCallback(log)
            learner.learn(learner.decisions, callback, log_interval=None, reset_num_timesteps=False)  # type: ignore[arg-type]
        self.played[name] += 1
        return name, log.episodes[0]

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the state's features."""
        return next(iter(self._learners.values())).task.features

    def act(self, env: AllocationEnv) -> EpisodeResult:
        """Plays one episode of any environment with the policy as it is, and no noise."""
        return play_policy(env, next(iter(self._learners.values())).ratio)

    def state(self) -> PolicyState:
        """Copies what has been learnt. Replays are put in order first, so that a later start finds them the same."""
        for learner in self._learners.values():
            learner.replay_buffer.put_in_order()
        parts = {name: capture(learner) for name, learner in self._learners.items()}
        config = next(iter(parts.values())).config
        return PolicyState(config, parts, dict(self.played), self._seed)

    def _restore(self, state: PolicyState) -> None:
        assert list(state.parts) == list(self._learners), "the same tasks in the same order"
        for name, learner in self._learners.items():
            restore(learner, state.parts[name])
            learner.num_timesteps = state.episodes[name] * learner.decisions
        self.played = dict(state.episodes)

    def _next(self, generator: np.random.Generator) -> str:
        """Returns the task to be played: those in their warm-up in turn, then at random, more where less is learnt.

        A task's lag is the distance of its last rewards from its best, in its own standard deviations.
        """
        names = list(self._learners)
        fewest = min(names, key=lambda name: self.played[name])
        if self.played[fewest] <= self._learners[fewest].schedule.warmup:
            return fewest
        lags = np.array([_lag(self._learners[name].replay_buffer.episode_rewards()) for name in names])
        shares = lags / lags.sum() if lags.sum() > 0 else np.full(len(names), 1 / len(names))
        return names[int(generator.choice(len(names), p=_EVEN / len(names) + (1 - _EVEN) * shares))]


class TaskDDPG(AllocationDDPG):
    """The learner of one task, whose actor is that of all."""

    team: list[TaskDDPG]

    def join(self, team: list[TaskDDPG]) -> None:
        """Takes the networks of the first of the team, its critic of allocations apart."""
        self.team, self.policy = team, team[0].policy
        self._create_aliases()
        assert self.episode_learner is not None
        self.episode_learner.share(self.actor)

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """Takes gradient steps of the task's own critic, then of the actor by the critics of several tasks."""
        assert self.episode_learner is not None
        self._update_learning_rate([])
        steps = gradient_steps * (FIRST_STEPS if self._n_updates == 0 else 1)
        self.episode_learner.fit_critic(self.replay_buffer, steps)
        self._n_updates += gradient_steps
        others = [learner for learner in self.team if learner is not self and learner._n_updates]
        drawn = self.generator.permutation(len(others))[: _TOGETHER - 1]
        losses = [learner.loss_of_actor() for learner in (self, *(others[index] for index in drawn))]
        for _ in range(steps):
            gradient_step(self.actor.optimizer, torch.stack([loss() for loss in losses]).mean())

    def loss_of_actor(self) -> Callable[[], torch.Tensor]:
        """Returns the actor's loss by this task's critic; see `EpisodeLearner.actor_loss`."""
        assert self.episode_learner is not None
        return self.episode_learner.actor_loss(self.replay_buffer, torch.from_numpy(self.walked()))

    def walked(self) -> NDArray[np.float32]:
        """Returns what the actor sees when it walks without noise, `(decisions, features)`; nothing is scored."""
        seen, _ = self.walk()
        self._last_obs = None  # the next episode starts over
        return seen


def _lag(rewards: NDArray[np.float32]) -> float:
    """Returns how far the last rewards are below the best, in standard deviations."""
    deviation = float(rewards.std())
    return float(rewards.max() - rewards[-_RECENT:].mean()) / deviation if deviation > 1e-8 else 0.0
