"""What an earlier start of a run remembered, checked before it is used."""

from __future__ import annotations

from typing import Any

from amc.errors import RunFolderError
from amc.pipeline.recorder import Recorder
from amc.utils.plain_json import as_type


def recalled(recorder: Recorder, name: str, kind: type) -> dict[str, Any] | None:
    """Returns what an earlier start remembered, or None.

    Raises:
        RunFolderError: If it is not what was remembered.
    """
    record = recorder.recall(name)
    if record is None:
        return None
    try:
        as_type(record, kind)
    except ValueError as error:
        raise RunFolderError(
            f"what the run remembers as {name!r} is damaged: {error}; delete its progress.json, and it is done again"
        ) from error
    return record
