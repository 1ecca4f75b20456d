"""Agents that learn: what they have learnt can be kept and used again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from agents.protocol import Agent

if TYPE_CHECKING:
    from agents.episodes import EpisodeLog
    from agents.learnt_task import LearntTask
    from agents.protocol import AllocationEnv, EpisodeResult


@runtime_checkable
class LearningAgent(Agent, Protocol):
    """An agent whose networks can be kept, and used again in other searches.

    A search of a new agent starts from nothing, one of an agent that was loaded from what it has learnt: its first
    episode is then played without noise.
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

    def save(self, path: str | Path) -> None:
        """Writes what has been learnt to one safetensors file; `agents.loading.load_agent` reads it.

        Raises:
            ConfigurationError: If nothing has been learnt.
        """
        ...
