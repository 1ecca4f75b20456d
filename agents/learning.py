"""Agents that learn: their state can be saved and reused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

import numpy as np

from agents.episodes import EpisodeLog
from agents.protocol import Agent

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agents.learnt_task import LearntTask
    from agents.protocol import AllocationEnv, EpisodeResult


Policy: TypeAlias = "Callable[[NDArray[np.float32]], float]"
"""From an observation `(features,)` to the pruning ratio, in [0, 1]."""


def play_policy(env: AllocationEnv, policy: Policy, log: EpisodeLog | None = None) -> EpisodeResult:
    """Plays one episode as a policy says.

    Args:
        env: The environment.
        policy: From observations to pruning ratios.
        log: Takes the result; a new one if None.
    """
    observation, info = env.reset()
    done = False
    while not done:
        observation, _, done, _, info = env.step(np.array([policy(observation)], dtype=np.float32))
    return (EpisodeLog() if log is None else log).finish(info)


@runtime_checkable
class LearningAgent(Agent, Protocol):
    """An agent whose networks can be saved and reused in other searches.

    A search of a new agent starts from scratch, that of a loaded agent from its saved state: its first episode is then
    played without noise.
    """

    @property
    def tasks(self) -> tuple[LearntTask, ...]:
        """What it has learnt; empty if nothing."""

    def act(self, env: AllocationEnv, log: EpisodeLog | None = None) -> EpisodeResult:
        """Plays one episode without noise, and learns nothing from it.

        Raises:
            ConfigurationError: If nothing has been learnt.
            CheckpointError: If what has been learnt does not fit the environment.
        """
        ...

    def policy(self, env: AllocationEnv) -> Policy:
        """Returns what has been learnt as a function, without noise, for one environment.

        Raises:
            ConfigurationError: If nothing has been learnt.
            CheckpointError: If what has been learnt does not fit the environment.
        """
        ...

    def save(self, path: str | Path) -> None:
        """Writes what has been learnt to one safetensors file; `agents.loading.load_agent` reads it.

        Raises:
            ConfigurationError: If nothing has been learnt.
        """
        ...
