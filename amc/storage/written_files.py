"""Digests of the weights that a run wrote into its folder, so that commands notice when others are in their place.

They are kept in `run.json`. A folder without it, such as one that `CompressionResult.save` wrote, is no record of a
run: its network may be trained and saved over at will, and nothing is recorded or checked.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from amc.errors import RunFolderError
from amc.storage.names import RUN
from amc.utils.digests import digest_of
from amc.utils.json_files import write_json
from amc.utils.plain_json import as_type, read_json

_KEY = "written"
"""The entry of `run.json`: SHA-256 by the name of the file."""


def record_written(folder: Path, name: str) -> None:
    """Records the digest of a file that has just been written into a folder, if the folder is that of a run.

    Raises:
        RunFolderError: If `run.json` is damaged.
        OSError: If a file cannot be read or written.
    """
    if (folder / RUN).is_file():
        record = _record(folder)
        write_json(folder / RUN, {**record, _KEY: {**_digests(folder, record), name: digest_of(folder / name)}})


def check_written(folder: Path, name: str) -> None:
    """Checks that a file is the one that the run in a folder wrote.

    Nothing is checked where the file is missing, or no digest is recorded, as in folders of earlier versions.

    Raises:
        RunFolderError: If it is another file.
    """
    file = folder / name
    if not (folder / RUN).is_file() or not file.is_file():
        return
    record = _record(folder)
    recorded = _digests(folder, record).get(name)
    if recorded is None:
        return
    try:
        found = digest_of(file)
    except OSError as error:
        raise RunFolderError(f"{file} must be readable: {error}") from error
    if found != recorded:
        raise RunFolderError(
            f"{file} must be what the run wrote, but has changed since (SHA-256 {found[:12]}, not {recorded[:12]}); "
            "put the old file back, or continue the run to write it again; to use the new one, copy the folder without "
            f"{RUN}"
        )


def _record(folder: Path) -> dict[str, Any]:
    try:
        return as_type(read_json(folder / RUN), dict[str, Any])
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{folder / RUN} must say how the run began, but is damaged: {error}") from error


def _digests(folder: Path, record: dict[str, Any]) -> dict[str, str]:
    try:
        return as_type(record.get(_KEY, {}), dict[str, str])
    except ValueError as error:
        raise RunFolderError(f"{folder / RUN} must list the files that the run wrote: {error}") from error
