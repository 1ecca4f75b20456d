"""The episodes of one search in a file, one per line, written as they end and read when the run is resumed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from agents.protocol import EpisodeResult
from amc.errors import AmcError
from amc.pipeline.episodes import episode_from_record, episode_line
from amc.utils.durable_files import Appender, write_text
from amc.utils.json_lines import distinct, mend, read_lines


class EpisodesFile:
    """Keeps the episodes of one search, by their number.

    Attributes:
        episodes: Those that the file has; empty until it is read.
    """

    def __init__(self, file: Path) -> None:
        """Takes the file; it need not exist, its folder must."""
        self.episodes: dict[int, EpisodeResult] = {}
        self._file, self._appender = file, Appender(file)

    def read(self) -> None:
        """Reads all complete episodes; some may be missing in between.

        Where an episode is there twice, the first counts. A damaged file is repaired, and a copy of it is kept.

        Raises:
            RunFolderError: If the file is another's.
        """
        reading = read_lines(self._file)
        records = [record for record in reading.records if _is_episode(record)]
        records = sorted(distinct(records, lambda record: int(record["episode"])), key=lambda record: record["episode"])
        mend(self._file, reading, records, "the other episodes are measured again")
        self.episodes = {int(record["episode"]): episode_from_record(record) for record in records}

    def add(self, result: EpisodeResult) -> bool:
        """Writes a new episode; drops those in the file after which the search took another path.

        Once this returns, the episode survives a kill, and a power cut a second later.

        Returns:
            Whether it was new.
        """
        number, known = result.episode, self.episodes.get(result.episode)
        if known is not None and known.allocation.key() == result.allocation.key():
            return False
        if known is not None:
            self.episodes = {index: episode for index, episode in self.episodes.items() if index < number}
        follows = number > max(self.episodes, default=-1)
        self.episodes = dict(sorted({**self.episodes, number: result}.items()))
        if known is None and follows:
            self._appender.add(episode_line(result))
        else:
            self._replace(self.episodes.values())
        return True

    def finish(self) -> None:
        """Waits until the disk has confirmed what was appended."""
        self._appender.finish()

    def _replace(self, episodes: Iterable[EpisodeResult]) -> None:
        write_text(self._file, "".join(map(episode_line, episodes)))


def _is_episode(record: Mapping[str, Any]) -> bool:
    try:
        episode_from_record(record)
    except (ValueError, KeyError, TypeError, AmcError):
        return False
    return True
