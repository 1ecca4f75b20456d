"""The state of an unfinished training on disk."""

from __future__ import annotations

import reprlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from amc.errors import CheckpointError
from amc.models.pickle_files import read_pickle, tensors_within
from amc.utils.durable_files import replacing
from amc.utils.format_numbers import other_version

_FORMAT = {"format": 2}  # one more setting that must match
_ABSENT = object()


def save_checkpoint(path: Path, state: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Writes a training state; a kill at any time leaves a complete file, and the previous one is kept beside it.

    Args:
        path: The file; its folder is created if needed, within one that exists: a run's that was deleted stays so.
        state: Tensors, numbers, strings and containers of them.
        settings: What must be the same when the training is resumed, with values of the same kinds.
    """
    path.parent.mkdir(exist_ok=True)
    with replacing(path) as unfinished:
        torch.save({"settings": {**_FORMAT, **settings}, "state": dict(state)}, unfinished)
        if path.exists():
            path.replace(_before(path))


def read_checkpoint(path: Path, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """Reads a training state.

    Args:
        path: The file.
        settings: The settings of the training to resume.

    Returns:
        The state, on the CPU; `None` if there is no file. If the file is damaged, the previous state.

    Raises:
        CheckpointError: If the file cannot be read and there is no previous one, or the settings differ; the message
            names the first that does.
    """
    before = _before(path)
    if not path.exists() and not before.exists():
        return None
    try:
        content = _read(path if path.exists() else before)
    except CheckpointError as damage:
        if not before.exists():
            raise
        content = _read(before)
        # Not a RuntimeWarning: those become notes about the network, and this is about a file.
        warnings.warn(f"{damage}; the training continues from the state before it", UserWarning, stacklevel=2)
    older = "continue with that one, or delete the file to start again"
    if (words := other_version(content["settings"].get("format"), _FORMAT["format"], older=older)) is not None:
        raise CheckpointError(f"the training state {path} {words}")
    written, wanted = content["settings"], {**_FORMAT, **settings}
    names = dict.fromkeys([*wanted, *written])  # settings of later versions are left out at their defaults
    differing = [name for name in names if written.get(name, _ABSENT) != wanted.get(name, _ABSENT)]
    if differing:
        name = differing[0]
        found = reprlib.repr(written[name]) if name in written else "at its default"
        given = reprlib.repr(wanted[name]) if name in wanted else "its default"
        raise CheckpointError(
            f"the training state {path} was written with {name} {found}, not {given}; "
            "use the same settings to continue, or delete it to start again"
        )
    return dict(content["state"])


def _before(path: Path) -> Path:
    """Returns where the previous state is kept."""
    return path.with_name(f"{path.name}.before")


def _read(path: Path) -> dict[str, Any]:
    """Reads one file.

    Raises:
        CheckpointError: If it does not hold a training state.
    """
    remedy = "delete it to train from the start"
    try:
        content = read_pickle(path)
    except CheckpointError as error:
        raise CheckpointError(f"the training state {path} is damaged: {error}; {remedy}") from error
    parts = (content.get("settings"), content.get("state")) if isinstance(content, dict) else (None, None)
    if not all(isinstance(part, dict) for part in parts) or any(True for _ in tensors_within(parts[0])):
        raise CheckpointError(f"{path} is no training state; {remedy}")
    return dict(content)
