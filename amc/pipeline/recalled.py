"""What an earlier start of a run has recorded, checked before it is used."""

from __future__ import annotations

from typing import Any

from amc.errors import RunFolderError
from amc.pipeline.recorder import Recorder
from amc.utils.plain_json import as_type


def recalled(recorder: Recorder, name: str, kind: type) -> dict[str, Any] | None:
    """Returns what an earlier start recorded, or None.

    Raises:
        RunFolderError: If the record is damaged.
    """
    record = recorder.recall(name)
    if record is None:
        return None
    try:
        as_type(record, kind)
    except ValueError as error:
        raise RunFolderError(
            f"the record {name!r} of the run is damaged: {error}; delete its progress.json to do the work again"
        ) from error
    return record
