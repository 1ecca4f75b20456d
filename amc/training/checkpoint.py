"""The state of an unfinished training on disk."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from amc.errors import CheckpointError

_FORMAT = 1


def save_checkpoint(path: Path, state: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Writes a training state, replacing an older one at once, so that a kill at any time leaves a whole file.

    Args:
        path: The file; its folder is made if need be.
        state: Tensors, numbers, strings and containers of them.
        settings: What must be the same when the training goes on; the same kinds of values.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    torch.save({"format": _FORMAT, "settings": dict(settings), "state": dict(state)}, unfinished)
    unfinished.replace(path)


def read_checkpoint(path: Path, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """Reads a training state.

    Args:
        path: The file.
        settings: The settings of the training that is to go on.

    Returns:
        The state, on the CPU; `None` if there is no file.

    Raises:
        CheckpointError: If the file cannot be read, or was written under other settings; the message names the first.
    """
    if not path.exists():
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        known = content["format"] == _FORMAT
        written, state = content["settings"], content["state"]
    except (pickle.UnpicklingError, OSError, EOFError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"cannot read the training state {path}: {error}; delete it to start anew") from error
    differing = [name for name in settings if name not in written or written[name] != settings[name]]
    if differing or not known:
        name = differing[0] if differing else "format"
        raise CheckpointError(
            f"the training state {path} was written with {name} {written.get(name)!r}, not {settings.get(name)!r}; "
            "use the same settings to go on, or delete it to start anew"
        )
    return dict(state)
