"""The files of a run that grow while it works: episodes, finished stages, states of trainings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from agents.protocol import EpisodeResult
from amc.errors import AmcError, RunFolderError
from amc.pipeline.episodes import episode_from_record, episode_line
from amc.storage.names import CHECKPOINTS, DENSE, EPISODES, PROGRESS
from amc.utils.durable_files import Appender, write_text
from amc.utils.json_files import write_json
from amc.utils.json_lines import distinct, mend, read_lines
from amc.utils.plain_json import as_type, read_json


class RunFiles:
    """Reads and writes what a run has done so far in a folder that exists."""

    def __init__(self, path: Path) -> None:
        """Takes the folder."""
        self.path = path
        self._appender = Appender(path / EPISODES)

    def read_episodes(self) -> list[EpisodeResult]:
        """Returns the whole episodes that were written, by their number; some may be missing between others.

        Of an episode that stands twice the first counts. A damaged file is mended, and a copy of it kept.

        Raises:
            RunFolderError: If the file is another's.
        """
        file = self.path / EPISODES
        reading = read_lines(file)
        records = [record for record in reading.records if _episode(record) is not None]
        records = sorted(distinct(records, lambda record: int(record["episode"])), key=lambda record: record["episode"])
        mend(file, reading, records, "the other episodes are measured again")
        return [episode_from_record(record) for record in records]

    def write_episodes(self, episodes: Iterable[EpisodeResult]) -> None:
        """Replaces all episodes."""
        write_text(self.path / EPISODES, "".join(episode_line(episode) for episode in episodes))

    def append_episode(self, episode: EpisodeResult) -> None:
        """Adds an episode; a kill does not lose it when this returns, nor a power cut a second later."""
        self._appender.add(episode_line(episode))

    def finish(self) -> None:
        """Has the disk confirm what was appended."""
        self._appender.finish()

    def read_progress(self) -> dict[str, Any]:
        """Returns the records of finished stages, by name.

        Raises:
            RunFolderError: If the file is damaged.
        """
        file = self.path / PROGRESS
        if not file.is_file():
            return {}
        try:
            return as_type(read_json(file), dict[str, dict[str, Any]])
        except (OSError, ValueError) as error:
            raise RunFolderError(
                f"{file} must list the stages that are done, and is damaged: {error}; "
                "delete it, and they are done again"
            ) from error

    def write_progress(self, records: Mapping[str, Any]) -> None:
        """Replaces the records of finished stages."""
        write_json(self.path / PROGRESS, records)


def has_results(path: Path) -> bool:
    """Tells whether a run's folder holds anything that took time."""
    episodes, checkpoints = path / EPISODES, path / CHECKPOINTS
    has_episodes = episodes.is_file() and episodes.stat().st_size > 0
    has_checkpoints = checkpoints.is_dir() and any(checkpoints.iterdir())
    return has_episodes or has_checkpoints or (path / PROGRESS).is_file() or (path / DENSE).is_file()


def _episode(record: Mapping[str, Any]) -> EpisodeResult | None:
    """Returns the episode of a record; None if it is none."""
    try:
        return episode_from_record(record)
    except (ValueError, KeyError, TypeError, AmcError):
        return None
