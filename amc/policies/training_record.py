"""The files of a training: its episodes, its evaluations, the checkpoint, and the policy with its card."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from agents.agent_file import read_agent
from agents.ddpg.policy_state import PolicyState
from agents.protocol import EpisodeResult
from amc.errors import AmcError, RunFolderError, cause_of
from amc.pipeline.episodes import episode_from_record, episode_record
from amc.storage.agent_card import AgentCard, write_card
from amc.storage.names import AGENT, AGENT_CARD, CHECKPOINT, EVALUATIONS, TRAINING
from amc.utils.json_lines import Lines


class _Evaluation(msgspec.Struct):
    """What is read from a line of evaluations.jsonl."""

    episode: int
    mean: float
    rewards: dict[str, float]


class _PlayedEpisode(msgspec.Struct):
    """What is read of a line of training.jsonl before the episode itself is."""

    episode: int
    task: str


class TrainingRecord:
    """Reads and writes what a training has done, in a folder that exists."""

    def __init__(self, folder: Path) -> None:
        """Reads what is there.

        Raises:
            RunFolderError: If a file is damaged beyond use.
        """
        self._folder = folder
        self._begun = {name for name in (TRAINING, EVALUATIONS) if (folder / name).exists()}
        self._episodes = Lines(folder / TRAINING, ("episode",), _PlayedEpisode)
        self._evaluations = Lines(folder / EVALUATIONS, ("episode",), _Evaluation)
        self._numbers = {record["episode"] for record in self._episodes.records}

    def episodes(self) -> list[tuple[str, EpisodeResult]]:
        """Returns the task of every recorded episode, and the episode, in their order.

        Raises:
            RunFolderError: If a line is none of a training.
        """
        try:
            found = [(str(record["task"]), episode_from_record(record)) for record in self._episodes.records]
        except (AmcError, KeyError, TypeError, ValueError) as error:
            raise RunFolderError(
                f"{self._folder / TRAINING} must hold the episodes of a training: {cause_of(error)}; repair or move it "
                "away"
            ) from error
        return sorted(found, key=lambda pair: pair[1].episode)

    def add_episode(self, number: int, task: str, result: EpisodeResult) -> None:
        """Adds an episode, unless it is there."""
        if number not in self._numbers:
            self._numbers.add(number)
            self._episodes.add({"task": task, **episode_record(replace(result, episode=number))})

    @property
    def evaluations(self) -> list[dict[str, Any]]:
        """The evaluations so far, by rising episode: `episode`, `rewards` by task, and their `mean`."""
        return sorted(self._evaluations.records, key=lambda record: int(record["episode"]))

    def is_evaluated(self, episode: int) -> bool:
        """Returns whether there is an evaluation after a number of episodes."""
        return any(record["episode"] == episode for record in self._evaluations.records)

    def add_evaluation(self, episode: int, rewards: Mapping[str, float], mean: float) -> None:
        """Adds an evaluation."""
        self._evaluations.add({"episode": episode, "mean": mean, "rewards": dict(rewards)})

    def checkpoint(self) -> PolicyState | None:
        """Returns where an earlier start has come to; None if there is nothing.

        Raises:
            CheckpointError: If the file is damaged.
        """
        file = self._folder / CHECKPOINT
        return PolicyState.load(file) if file.exists() else None

    def check_complete(self, episode: int, evaluated: Iterable[int]) -> None:
        """Checks that nothing of what led to the checkpoint is lost, as a power cut or a damaged disk may leave it.

        A record that was deleted on purpose, the whole file, is no loss, nor is what came before it.

        Args:
            episode: Episodes before the checkpoint.
            evaluated: After which of them there was an evaluation.

        Raises:
            RunFolderError: If episodes or evaluations are missing.
            CheckpointError: If the policy that was kept is damaged.
        """
        needed = ((TRAINING, self._episodes, range(episode)), (EVALUATIONS, self._evaluations, evaluated))
        for name, lines, numbers in needed:
            lost = _lost(lines, numbers) if name in self._begun else []
            if lost:
                raise RunFolderError(
                    f"{self._folder / name} must hold what led to the checkpoint after {episode} episodes, and lacks "
                    f"{len(lost)} lines, that of episode {lost[0]} first; delete {TRAINING} and {EVALUATIONS} to "
                    f"continue without their past, or {CHECKPOINT} too to begin at the start"
                )
        if (self._folder / AGENT).exists():
            read_agent(self._folder / AGENT)

    def write_checkpoint(self, state: PolicyState) -> None:
        """Replaces the checkpoint."""
        state.save(self._folder / CHECKPOINT)

    def write_policy(self, state: PolicyState, card: AgentCard) -> None:
        """Replaces the policy and its card."""
        state.save(self._folder / AGENT)
        write_card(self._folder / AGENT_CARD, card)


def _lost(lines: Lines, numbers: Iterable[int]) -> list[int]:
    """Returns the episodes that have no line, from the first that has one."""
    there = {int(record["episode"]) for record in lines.records}
    return sorted(number for number in set(numbers) - there if number >= min(there, default=0))
