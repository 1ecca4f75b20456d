"""What learning agents have in common: the states that searches start from and leave, and their use without noise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Generic, Protocol, TypeVar

from agents.learning import Policy, play_policy
from amc.errors import ConfigurationError

if TYPE_CHECKING:
    from agents.episodes import EpisodeLog
    from agents.learnt_task import LearntTask
    from agents.protocol import AllocationEnv, EpisodeResult


class LearntState(Protocol):
    """What an agent has learnt."""

    @property
    def tasks(self) -> tuple[LearntTask, ...]:
        """The tasks that it was learnt in."""

    def save(self, path: str | Path) -> None:
        """Writes one safetensors file."""


State = TypeVar("State", bound=LearntState)


class Learner(ABC, Generic[State]):
    """An agent that learns; see `LearningAgent`.

    Attributes:
        initial: The state that searches start from; None for new networks.
        trained: The state after the last search; None before it.
    """

    name: ClassVar[str]
    initial: State | None = None
    trained: State | None = None

    @property
    def tasks(self) -> tuple[LearntTask, ...]:
        """What it has learnt; see `LearningAgent`."""
        state = self.trained or self.initial
        return () if state is None else state.tasks

    def act(self, env: AllocationEnv, log: EpisodeLog | None = None) -> EpisodeResult:
        """Plays one episode with what was learnt and no noise.

        Args:
            env: The environment: the one that the policy was learnt in, or that of another budget or network.
            log: Takes the result; a new one if None.

        Returns:
            The episode's result.

        Raises:
            ConfigurationError: If nothing has been learnt.
            CheckpointError: If what has been learnt does not fit the environment.
        """
        return play_policy(env, self.policy(env), log)

    @abstractmethod
    def policy(self, env: AllocationEnv) -> Policy:
        """Returns what was learnt as a function; see `LearningAgent`."""

    def save(self, path: str | Path) -> None:
        """Writes what was learnt to one safetensors file; see `LearningAgent`.

        Raises:
            ConfigurationError: If nothing has been learnt.
        """
        self.learnt().save(path)

    def learnt(self) -> State:
        """Returns the state after the last search, or the one that searches start from.

        Raises:
            ConfigurationError: If nothing has been learnt.
        """
        state = self.trained or self.initial
        if state is None:
            raise ConfigurationError(f"{self.name}: an agent must learn before it is used; call search or load one")
        return state
