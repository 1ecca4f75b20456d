"""Stable-Baselines3's DDPG with the exploration, the replay and the two learning rates of the AMC paper."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import DDPG
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.noise import ActionNoise

from agents.ddpg.config import DDPGConfig
from agents.ddpg.episode_learner import EpisodeLearner
from agents.ddpg.exploration import Schedule
from agents.ddpg.proposals import best_plan
from agents.ddpg.replay import SharedRewardReplayBuffer
from agents.keep_scale import KeepScale
from agents.learnt_task import LearntTask
from agents.protocol import Learning, problem_of
from agents.side_by_side import SideBySide, twin

if TYPE_CHECKING:
    from agents.protocol import AllocationEnv


@contextmanager
def _in_float32() -> Iterator[None]:
    """Makes new tensors float32 on the CPU, whatever the caller's defaults are for the network that is pruned."""
    dtype, device = torch.get_default_dtype(), torch.get_default_device()
    torch.set_default_dtype(torch.float32)
    try:
        with nullcontext() if device.type == "cpu" else torch.device("cpu"):
            yield
    finally:
        torch.set_default_dtype(dtype)


class AllocationDDPG(DDPG):
    """DDPG over the decisions of one environment, or of several that share its problem."""

    replay_buffer: SharedRewardReplayBuffer

    @_in_float32()
    def __init__(self, env: AllocationEnv, config: DDPGConfig, schedule: Schedule, seed: int) -> None:
        """Builds networks and replay. Seeds the global generators: run it inside `isolated_random_state`.

        Args:
            env: The environment.
            config: The options.
            schedule: What the episodes do.
            seed: Seed of the networks, the replay and the exploration.
        """
        sizes = tuple(decision.size for decision in problem_of(env).decisions)
        self.decisions, self.task = len(sizes), LearntTask.of(env)
        self.config, self.schedule = config, schedule
        self.generator = np.random.default_rng(seed)
        super().__init__(
            "MlpPolicy",
            _side_by_side(env, config.environments),  # made here, so that no Monitor is wrapped around
            learning_rate=config.critic_lr,
            buffer_size=config.replay_episodes * self.decisions,
            # Learning starts when more steps than these are played: after the warm-up's last episode, not the next.
            learning_starts=max(0, schedule.warmup * self.decisions - 1),
            batch_size=config.batch_size,
            tau=config.tau,
            gamma=config.discount,
            train_freq=(self.decisions, "step"),  # one episode in each environment
            gradient_steps=config.gradient_steps * (config.environments if config.gradient_steps > 0 else 1),
            replay_buffer_class=SharedRewardReplayBuffer,
            replay_buffer_kwargs={
                "sizes": sizes,
                "baseline_rate": config.baseline_rate,
                "scale_rewards": config.reward_scale == "std",
                "store_applied": config.stored_action == "applied",
                "bootstrap": config.targets == "bootstrap",
            },
            policy_kwargs={"net_arch": list(config.hidden), "optimizer_kwargs": {"fused": True}},
            seed=seed % 2**32,
            device="cpu",  # networks this small are slower on an accelerator
        )
        self.set_logger(Logger(None, []))  # the default makes a folder in that for temporary files, and leaves it there
        self.episode_learner = (
            EpisodeLearner(problem_of(env), self.actor, config) if config.critic == "episode" else None
        )
        self._plans: dict[int, NDArray[np.float64]] = {}
        self._problem = problem_of(env)
        self.take_scale(self.scale_of(config))

    def scale_of(self, config: DDPGConfig) -> KeepScale:
        """Returns the scale that options ask for."""
        return KeepScale.for_problem(self._problem, config.scale if config.critic == "episode" else "linear")

    def take_scale(self, scale: KeepScale) -> None:
        """Chooses on a scale from now on. For weights its options name it, as another budget would suggest another."""
        self.scale = scale
        if self.task.kind == "weight":
            self.config = replace(self.config, scale=scale.name)
        if self.episode_learner is not None:
            self.episode_learner.scale = scale

    @_in_float32()
    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """Takes gradient steps, with the critic of single steps or that of whole episodes."""
        if self.episode_learner is None:
            super().train(gradient_steps, batch_size)
            return
        self._update_learning_rate([])
        self.episode_learner.train(self.replay_buffer, gradient_steps, first=self._n_updates == 0)
        self._n_updates += gradient_steps

    @_in_float32()
    def learning(self) -> Learning:
        """Returns the last losses, and what the actor does without noise; for the end of an episode."""
        if not self._n_updates:
            return Learning()
        losses = (self.logger.name_to_value.get(f"train/{name}_loss") for name in ("actor", "critic"))
        actor, critic = losses if self.episode_learner is None else self.episode_learner.losses
        return Learning(actor, critic, tuple(self.walk()[1]))

    def walk(self) -> tuple[NDArray[np.float32], list[float]]:
        """Walks the first environment without noise; nothing is scored. It is at its start again afterwards.

        Returns:
            What the actor sees, `(decisions, features)`, and the pruning ratios that it gives.
        """
        assert self.env is not None
        env = self.env.envs[0]  # type: ignore[attr-defined]
        observation, _ = env.reset()
        seen, ratios = [observation], [self.ratio(observation)]
        while len(seen) < self.decisions:
            observation, *_ = env.step(np.array(ratios[-1:], dtype=np.float32))
            seen.append(observation)
            ratios.append(self.ratio(observation))
        env.reset()
        return np.stack(seen), ratios

    def _update_learning_rate(self, optimizers: list[torch.optim.Optimizer] | torch.optim.Optimizer) -> None:
        """Gives actor and critic separate constant rates; Stable-Baselines3 has one for both."""
        for network, rate in ((self.actor, self.config.actor_lr), (self.critic, self.config.critic_lr)):
            for group in network.optimizer.param_groups:
                group["lr"] = rate

    @_in_float32()
    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Explores in pruning ratios: noise is truncated around the actor's mean, which `ActionNoise` never sees.

        Returns:
            The pruning ratio of every environment, shape `(environments, 1)`, and the same scaled to [-1, 1] for the
            replay.
        """
        assert self._last_obs is not None
        played, step = divmod(self.num_timesteps // n_envs, self.decisions)
        ratios = [
            self._explore(played * n_envs + index, index, step, observation)
            for index, observation in enumerate(self._last_obs)
        ]
        action = np.array(ratios, dtype=np.float32).reshape(-1, 1)
        return action, 2.0 * action - 1.0

    def _explore(self, episode: int, index: int, step: int, observation: NDArray[np.float32]) -> float:
        """Returns the pruning ratio that an episode in the environment `index` plays at a step."""
        unplanned = episode < self.schedule.noiseless or not self._n_updates
        if self.episode_learner is None or self.config.proposals == 1 or unplanned:
            return self.schedule.ratio(episode, step, partial(self._cut, observation), self.generator, self.scale)
        if step == 0:
            self._plans[index] = best_plan(
                self.episode_learner,
                self.replay_buffer,
                self.config.proposals,
                self.config.elite_share,
                self.schedule.sigma_of(episode),
                self.generator,
                partial(self._is_new, index),
            )
        return float(self._plans[index][step])

    def _is_new(self, index: int, ratios: NDArray[np.float64]) -> bool:
        """Returns whether pruning ratios lead to an allocation of which the replay has no episode."""
        assert self.env is not None
        env = twin(self.env.envs[index])  # type: ignore[attr-defined]
        if not hasattr(env.unwrapped, "allocation_after"):
            return True
        env.reset()
        *first, last = ratios.astype(np.float32).reshape(-1, 1)
        for action in first:
            env.step(action)
        widths = env.unwrapped.allocation_after(last).key()
        return not self.replay_buffer.has_played(widths)

    def ratio(self, observation: NDArray[np.float32]) -> float:
        """Returns the actor's pruning ratio for an observation of shape `(features,)` or `(1, features)`."""
        return self.scale.ratios(self._cut(observation))

    @_in_float32()
    def _cut(self, observation: NDArray[np.float32]) -> float:
        """Returns what the actor cuts on its scale, `1 - level`; see `KeepScale`."""
        with torch.no_grad():
            output = self.actor(torch.as_tensor(observation, dtype=torch.float32).reshape(1, -1))
        return float(np.clip((output.item() + 1.0) / 2.0, 0.0, 1.0))


def _side_by_side(env: AllocationEnv, count: int) -> SideBySide:
    """Returns the environment and copies of it: each walks for itself, over the same problem and evaluator."""
    environments = [env, *(twin(env) for _ in range(count - 1))]
    return SideBySide([partial(_itself, environment) for environment in environments])


def _itself(env: AllocationEnv) -> AllocationEnv:
    return env
