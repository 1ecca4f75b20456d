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

_FORMAT = {"format": 2}  # one more of the settings that must agree


def save_checkpoint(path: Path, state: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Writes a training state, so that a kill at any time leaves a whole file; the one before is kept beside it.

    Args:
        path: The file; its folder is made if need be.
        state: Tensors, numbers, strings and containers of them.
        settings: What must be the same when the training is resumed; the same kinds of values.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
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
        The state, on the CPU; `None` if there is no file. Where the file is damaged, the state before it.

    Raises:
        CheckpointError: If the file cannot be read and there is none before it, or was written under other settings;
            the message names the first.
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
        # No RuntimeWarning: it is of the files, and no note to make of the network that is trained.
        warnings.warn(f"{damage}; the training continues from the state before it", UserWarning, stacklevel=2)
    written, wanted = content["settings"], {**_FORMAT, **settings}
    differing = [name for name in wanted if name not in written or written[name] != wanted[name]]
    if differing:
        name = differing[0]
        found = reprlib.repr(written.get(name))
        raise CheckpointError(
            f"the training state {path} was written with {name} {found}, not {wanted[name]!r}; "
            "use the same settings to continue, or delete it to start again"
        )
    return dict(content["state"])


def _before(path: Path) -> Path:
    """Returns where the state before the last one is kept."""
    return path.with_name(f"{path.name}.before")


def _read(path: Path) -> dict[str, Any]:
    """Reads one file.

    Raises:
        CheckpointError: If it holds no training state.
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
