"""The state of an unfinished training on disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from amc.errors import CheckpointError
from amc.models.weights import read_pickle
from amc.utils.durable_files import replacing

_FORMAT = {"format": 2}  # one more of the settings that must agree


def save_checkpoint(path: Path, state: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Writes a training state, replacing an older one at once, so that a kill at any time leaves a whole file.

    Args:
        path: The file; its folder is made if need be.
        state: Tensors, numbers, strings and containers of them.
        settings: What must be the same when the training goes on; the same kinds of values.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as unfinished:
        torch.save({"settings": {**_FORMAT, **settings}, "state": dict(state)}, unfinished)


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
    content = read_pickle(path)
    if not isinstance(content, dict) or not {"settings", "state"} <= content.keys():
        raise CheckpointError(f"{path} is no training state; delete it to start anew")
    written, wanted = content["settings"], {**_FORMAT, **settings}
    differing = [name for name in wanted if name not in written or written[name] != wanted[name]]
    if differing:
        name = differing[0]
        raise CheckpointError(
            f"the training state {path} was written with {name} {written.get(name)!r}, not {wanted[name]!r}; "
            "use the same settings to go on, or delete it to start anew"
        )
    return dict(content["state"])
