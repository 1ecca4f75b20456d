"""A recorder that keeps a run in a folder, so that it can be resumed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from agents.protocol import EpisodeResult
from amc.errors import AmcError, RunFolderError
from amc.pipeline.environment import Environment
from amc.pipeline.episodes_file import EpisodesFile
from amc.pipeline.recorder import Recorder
from amc.pipeline.run_files import read_progress, write_progress
from amc.pipeline.search_log import SearchRecorder, opened_log
from amc.storage.agent_card import AgentCard, write_card
from amc.storage.names import (
    AGENT,
    AGENT_CARD,
    DENSE,
    EPISODES,
    FOLDERS,
    LOCK,
    POLICY,
    checkpoint_file,
    compared_file,
)
from amc.storage.save import save_weights
from amc.storage.written_files import record_written
from amc.utils.durable_files import remove_unfinished
from amc.utils.folder_lock import FolderLock
from amc.utils.json_files import write_json


class FolderRecorder(Recorder):
    """Writes what a run does into its folder as it happens, and answers from it when the run is resumed.

    The folder is locked from `open` until `close`.
    """

    def __init__(self, path: Path) -> None:
        """Takes the folder, which need not exist yet."""
        self.path = path
        self._lock: FolderLock | None = None
        self._log = EpisodesFile(path / EPISODES)
        self._compared: list[EpisodesFile] = []
        self._progress: dict[str, Any] = {}
        self._is_open = False

    def lock(self) -> None:
        """Locks the folder, which exists, against other processes.

        Raises:
            RunFolderError: If another process works there, or the folder cannot be written.
        """
        if self._lock is not None:
            return
        lock = FolderLock(self.path, LOCK, inner=FOLDERS)
        try:
            lock.acquire()
        except OSError as error:
            raise RunFolderError(f"the run's folder must be writable: {error}") from error
        self._lock = lock
        remove_unfinished(self.path, FOLDERS)

    def open(self) -> None:
        """Reads what the folder, which exists, holds of the run.

        Raises:
            RunFolderError: If another process works there, or a file is damaged beyond use.
        """
        self.lock()
        try:
            self._log.read()
            self._progress = read_progress(self.path)
        except OSError as error:
            raise RunFolderError(f"the run's folder must be writable: {error}") from error
        self._is_open = True

    def close(self) -> None:
        """Flushes the last lines to disk, and unlocks the folder."""
        for log in (self._log, *self._compared):
            log.finish()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def tell(self, lines: Sequence[str]) -> None:
        """Says in the folder, once it is locked, in what stage the run is."""
        if self._lock is not None:
            self._lock.tell(lines)

    def loss(self) -> str | None:
        """Says what became of the folder if it is gone before `close`; None if it is there."""
        return None if self._lock is None else self._lock.loss()

    def environment(self) -> Environment | None:
        """Returns the environment in which the run was begun; None if the folder, of an earlier version, has none."""
        try:
            return Environment.read(self.path)
        except (OSError, ValueError, AmcError):  # missing or damaged: nothing depends on it
            return None

    def on_environment(self, environment: Environment) -> None:
        """Writes the environment of the run."""
        environment.write(self.path)

    def recorded_episodes(self) -> Sequence[EpisodeResult]:
        """Returns the episodes that the folder has."""
        return tuple(self._log.episodes.values())

    def on_episode(self, result: EpisodeResult) -> None:
        """Writes a new episode; drops recorded ones after which the search took another path."""
        if self._log.add(result):
            self.on_new_episode(result)

    def on_new_episode(self, result: EpisodeResult) -> None:
        """Is called for episodes that are new, after they were written."""

    def on_dense(self, model: nn.Module) -> None:
        """Writes the dense network's weights, so that other commands can start from them."""
        save_weights(self.path / DENSE, model)
        record_written(self.path, DENSE)

    def on_policy(self, record: Mapping[str, Any]) -> None:
        """Writes the policy as soon as it is known."""
        write_json(self.path / POLICY, record)

    def on_agent(self, save: Callable[[Path], None], card: AgentCard) -> None:
        """Writes the agent, and its card beside it."""
        save(self.path / AGENT)
        write_card(self.path / AGENT_CARD, card)

    def recall(self, name: str) -> dict[str, Any] | None:
        """Returns what was finished under a name."""
        known: dict[str, Any] | None = self._progress.get(name)
        return known

    def remember(self, name: str, record: Mapping[str, Any]) -> None:
        """Keeps a finished stage."""
        self._progress[name] = dict(record)
        write_progress(self.path, self._progress)

    def of_compared(self, agent: str) -> Recorder:
        """Returns the recorder of a compared agent's search, with a file of its own."""
        log = opened_log(compared_file(self.path, agent))
        self._compared.append(log)
        return SearchRecorder(log, self)

    def checkpoint(self, name: str) -> Path | None:
        """Returns the checkpoint file of a training."""
        return checkpoint_file(self.path, name)
