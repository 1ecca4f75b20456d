"""The finished stages of a run, in its folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from amc.errors import RunFolderError
from amc.storage.names import CHECKPOINTS, DENSE, EPISODES, PROGRESS
from amc.utils.json_files import write_json
from amc.utils.plain_json import as_type, read_json


def read_progress(folder: Path) -> dict[str, Any]:
    """Returns the records of finished stages, by name.

    Raises:
        RunFolderError: If the file is damaged.
    """
    file = folder / PROGRESS
    if not file.is_file():
        return {}
    try:
        return as_type(read_json(file), dict[str, dict[str, Any]])
    except (OSError, ValueError) as error:
        raise RunFolderError(
            f"{file} must list the finished stages, but is damaged: {error}; delete it to do them again"
        ) from error


def write_progress(folder: Path, records: Mapping[str, Any]) -> None:
    """Replaces the records of finished stages."""
    write_json(folder / PROGRESS, records)


def has_results(path: Path) -> bool:
    """Returns whether a run's folder holds anything that took time."""
    episodes, checkpoints = path / EPISODES, path / CHECKPOINTS
    has_episodes = episodes.is_file() and episodes.stat().st_size > 0
    has_checkpoints = checkpoints.is_dir() and any(checkpoints.iterdir())
    return has_episodes or has_checkpoints or (path / PROGRESS).is_file() or (path / DENSE).is_file()
