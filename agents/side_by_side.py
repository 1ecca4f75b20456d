"""Episodes that are played side by side: their allocations are announced together, and scored as the evaluator can."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv

from agents.episodes import EpisodeLog, play_ratios
from agents.protocol import EpisodeResult, evaluator_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agents.protocol import AllocationEnv


class SideBySide(DummyVecEnv):
    """Stable-Baselines3's environments in one process, which announce what their last steps lead to."""

    def step_wait(self) -> Any:
        """Takes one step in every environment; see `VecEnv`."""
        announce(self.envs, self.actions)
        return super().step_wait()


def play_together(
    env: AllocationEnv, several: Sequence[Sequence[float] | NDArray[Any]], log: EpisodeLog
) -> list[EpisodeResult]:
    """Plays one episode for each list of pruning ratios; the results are those of playing them one after the other.

    Args:
        env: The environment.
        several: For each episode one pruning ratio a decision, in [0, 1]; at least one episode.
        log: Takes the results, in order.
    """
    if len(several) == 1:
        return [play_ratios(env, several[0], log)]
    envs = [env, *(twin(env) for _ in several[1:])]
    for each, ratios in zip(envs, several, strict=True):
        each.reset()
        for ratio in ratios[:-1]:
            each.step(_action(ratio))
    last = [_action(ratios[-1]) for ratios in several]
    announce(envs, last)
    return [log.finish(each.step(action)[4]) for each, action in zip(envs, last, strict=True)]


def announce(envs: Sequence[gymnasium.Env[Any, Any]], actions: Sequence[Any] | NDArray[Any]) -> None:
    """Tells the evaluator which allocations it will be asked for, if these actions end the episodes.

    Args:
        envs: Environments that share one evaluator.
        actions: The next action in each.
    """
    if len(envs) < 2 or not hasattr(envs[0].unwrapped, "allocation_after"):
        return
    ahead = [each.unwrapped.allocation_after(action) for each, action in zip(envs, actions, strict=True)]  # type: ignore[attr-defined]
    allocations = [allocation for allocation in ahead if allocation is not None]
    if allocations:
        evaluator_of(envs[0]).expect(allocations)


def twin(env: AllocationEnv) -> AllocationEnv:
    """Returns a copy of an environment and its wrappers that shares what they hold."""
    copied = copy(env)
    for name, value in vars(env).items():
        if isinstance(value, (list, dict, set, deque)):  # what a wrapper records about its own episode
            setattr(copied, name, copy(value))
    if isinstance(copied, gymnasium.Wrapper):
        copied.env = twin(copied.env)
    return copied


def _action(ratio: float) -> NDArray[np.float32]:
    return np.array([ratio], dtype=np.float32)
