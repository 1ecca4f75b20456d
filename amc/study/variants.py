"""The subjects of a study: agents with options, and agents trained elsewhere."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from agents import Agent, EpisodeResult, SearchResult, create_agent
from agents.loading import load_agent
from envs.observation import feature_names

if TYPE_CHECKING:
    from agents.learning import LearningAgent

TRANSFERS = ("act", "warm")
"""A trained agent without further learning, for one episode; and as the start of a search."""


@dataclass(frozen=True)
class Variant:
    """An agent as the user wrote it.

    Attributes:
        label: Its spelling, as in `"ddpg:warm_start=[];critic=step"`.
        agent: The agent, with its options, or one of `TRANSFERS`.
        file: The trained agent of a transfer.
        contents: Those of the file, where it may lie on another machine; see `portable`.
    """

    label: str
    agent: str
    file: str | None = None
    contents: bytes | None = field(default=None, repr=False, compare=False)

    @staticmethod
    def parse(text: str) -> Variant:
        """Reads an agent as `amc.utils.options` does, or `act:FILE` or `warm:FILE`.

        Raises:
            UnknownNameError: If there is no such agent.
            ConfigurationError: If an option is malformed or does not exist.
            CheckpointError: If the file of a transfer cannot be read.
        """
        name, _, rest = text.partition(":")
        variant = Variant(text, name, file=rest) if name in TRANSFERS else Variant(text, text)
        variant.create()  # rejects wrong options before anything takes time
        return variant

    def create(self) -> Agent:
        """Creates the agent."""
        if self.file is None:
            return create_agent(self.agent)
        trained = self._trained()
        agent: Any = trained if self.agent == "warm" else _Acting(trained)
        return cast("Agent", agent)

    @property
    def features(self) -> tuple[str, ...] | None:
        """The features that a trained agent sees beside the paper's; None for an agent that takes any."""
        return None if self.file is None else self._trained().tasks[0].features[len(feature_names()) :]

    def portable(self) -> Variant:
        """Returns the same with the contents of its file, so that it can be created where the file is not."""
        return self if self.file is None else replace(self, contents=Path(self.file).read_bytes())

    def _trained(self) -> LearningAgent:
        assert self.file is not None
        if self.contents is None:
            return load_agent(self.file)
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / Path(self.file).name
            copy.write_bytes(self.contents)
            return load_agent(copy)

    def counts_and_seeds(self, counts: Sequence[int], seeds: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
        """Returns which numbers of candidates and which seeds make a difference to the agent.

        Rules, and trained agents that only act, have no seed. They play one episode, unless they score others first.
        """
        from agents.heuristics.base import Planner

        agent: object = self.create()
        if not isinstance(agent, Planner | _Acting):
            return counts, seeds
        return (counts if agent.measures else (1,)), (0,)


class _Acting:
    """A trained agent that does not learn further."""

    name = "act"
    measures = False

    def __init__(self, agent: LearningAgent) -> None:
        self._agent = agent

    def search(self, env: Any, episodes: int, *, seed: int, on_episode: Any | None = None) -> SearchResult:
        """Plays one episode without noise."""
        from agents.episodes import EpisodeLog

        result: EpisodeResult = self._agent.act(env, log := EpisodeLog(on_episode))
        return SearchResult(result, log.episodes)
