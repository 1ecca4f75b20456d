"""A search whose episodes are kept in a file of their own: that of an agent that is compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agents.protocol import EpisodeResult
from amc.pipeline.episodes_file import EpisodesFile
from amc.pipeline.recorder import Recorder, ShowingRecorder
from amc.utils.durable_files import sync_folder


class SearchRecorder(ShowingRecorder):
    """Keeps the episodes of one search, and shows its stages where those of the run are shown."""

    def __init__(self, log: EpisodesFile, shown: Recorder) -> None:
        """Takes the episodes of an earlier start, which have been read, and what shows the stages."""
        super().__init__(shown)
        self._log = log

    def recorded_episodes(self) -> Sequence[EpisodeResult]:
        """Returns the episodes that the file has."""
        return tuple(self._log.episodes.values())

    def on_episode(self, result: EpisodeResult) -> None:
        """Writes a new episode."""
        self._log.add(result)


def opened_log(file: Path) -> EpisodesFile:
    """Reads the episodes that a file has; makes its folder, whose parent exists, if need be."""
    if not file.parent.is_dir():
        file.parent.mkdir()
        sync_folder(file.parent.parent)
    log = EpisodesFile(file)
    log.read()
    return log
