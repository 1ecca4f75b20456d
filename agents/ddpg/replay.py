"""The replay in which every step of an episode has the episode's final reward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize

Transition = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any], list[dict[str, Any]]]


class SharedRewardReplayBuffer(ReplayBuffer):
    """Holds whole episodes; each of their steps carries the reward of the last.

    The paper gives the final reward to all steps; doing so here leaves the environment's rewards unchanged (zero on
    every step but the last). Steps are withheld until their episode ends. A moving average of the batches' mean rewards
    is subtracted when a batch is drawn, as the paper does to reduce the variance of the gradients.
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        device: Any = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        *,
        sizes: tuple[int, ...],
        baseline_rate: float,
        scale_rewards: bool,
        store_applied: bool,
        bootstrap: bool,
    ) -> None:
        """Creates an empty replay; the first six arguments are Stable-Baselines3's.

        Args:
            buffer_size: Steps that it holds: a multiple of the number of decisions.
            observation_space: The environment's.
            action_space: The environment's.
            device: Where batches go.
            n_envs: Environments that are played side by side. Their episodes are stored one after the other.
            optimize_memory_usage: False; next observations are stored.
            sizes: Dense widths, one a decision.
            baseline_rate: Rate of the moving average, in (0, 1]; 0 subtracts nothing.
            scale_rewards: Whether to divide by the standard deviation of the rewards held.
            store_applied: Whether to store the applied pruning ratios in place of the chosen ones.
            bootstrap: Whether batches show where episodes end; if not, every step is shown as a last one, so that the
                critic's target is the shared reward itself.
        """
        assert not optimize_memory_usage
        assert buffer_size % len(sizes) == 0, "whole episodes"
        super().__init__(buffer_size, observation_space, action_space, device, 1, optimize_memory_usage)
        self.sizes = np.array(sizes, dtype=np.float64)
        self.baseline_rate, self.scale_rewards, self.store_applied = baseline_rate, scale_rewards, store_applied
        self.bootstrap = bootstrap
        self.baseline: float | None = None
        self._episodes: list[list[Transition]] = [[] for _ in range(n_envs)]

    def add(
        self,
        obs: NDArray[Any],
        next_obs: NDArray[Any],
        action: NDArray[Any],
        reward: NDArray[Any],
        done: NDArray[Any],
        infos: list[dict[str, Any]],
    ) -> None:
        """Takes a step of every environment; at the end of an episode, stores all of it with the last step's reward."""
        for index, episode in enumerate(self._episodes):
            one = slice(index, index + 1)
            # Copied, as environments overwrite the arrays that they return.
            episode.append((obs[one].copy(), next_obs[one].copy(), action[one].copy(), done[one], infos[one]))
            if done[index]:
                self._store(episode, reward[one])
                episode.clear()

    def put_in_order(self) -> None:
        """Moves the oldest episode to the front of a full replay, which holds the same episodes afterwards."""
        if self.full and self.pos:
            for name in ("observations", "next_observations", "actions", "rewards", "dones", "timeouts"):
                array = getattr(self, name)
                array[:] = np.roll(array, -self.pos, axis=0)
            self.pos = 0

    def episode_rewards(self) -> NDArray[np.float32]:
        """Returns the reward of every episode held, oldest first."""
        rewards = np.roll(self.rewards[: self.size()], -self.pos if self.full else 0, axis=0)
        return rewards[:: len(self.sizes), 0]

    def has_played(self, widths: Sequence[int]) -> bool:
        """Returns whether an episode is held that ended with these widths, where applied actions are stored.

        Actions are float32, which tells the allowed widths of a layer of millions of weights apart, and no others.
        """
        actions = self.actions[: self.size()].reshape(-1, len(self.sizes)).astype(np.float64)
        off = np.abs((1.0 - actions) / 2.0 * self.sizes - np.array(widths))
        return bool((off <= np.maximum(0.5, self.sizes * 2.0**-24)).all(axis=1).any())

    def _store(self, episode: list[Transition], reward: NDArray[Any]) -> None:
        applied = self._applied(episode[-1][-1][0]) if self.store_applied else [step[2] for step in episode]
        for (obs, next_obs, _, done, infos), action in zip(episode, applied, strict=True):
            super().add(obs, next_obs, action, reward, done, infos)

    def _applied(self, info: dict[str, Any]) -> list[NDArray[Any]]:
        """Returns the applied pruning ratios of an episode, scaled to [-1, 1] as Stable-Baselines3 stores them."""
        widths = np.array(info["allocation"].key(), dtype=np.float64)
        ratios = 1.0 - widths / self.sizes
        return [np.array([[2.0 * ratio - 1.0]], dtype=np.float32) for ratio in ratios]

    def _get_samples(self, batch_inds: NDArray[Any], env: VecNormalize | None = None) -> ReplayBufferSamples:
        samples = super()._get_samples(batch_inds, env)
        if self.baseline_rate > 0:
            mean = float(samples.rewards.mean())
            self.baseline = mean if self.baseline is None else self._moved(self.baseline, mean)
        offset, scale = self.baseline or 0.0, self._scale()
        dones = samples.dones if self.bootstrap else torch.ones_like(samples.dones)
        return samples._replace(rewards=(samples.rewards - offset) / scale, dones=dones)

    def _moved(self, baseline: float, mean: float) -> float:
        return baseline + self.baseline_rate * (mean - baseline)

    def _scale(self) -> float:
        """Returns what rewards are divided by; 1 while all rewards are equal."""
        if not self.scale_rewards:
            return 1.0
        deviation = float(self.rewards[: self.size()].std())
        return deviation if deviation > 1e-8 else 1.0
