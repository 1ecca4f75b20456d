"""The folder of a training: its rules, and how it is continued."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from amc.errors import RunFolderError
from amc.pipeline.config import RunConfig, as_mapping, with_absolute_paths
from amc.storage.names import CHECKPOINT, CONFIG, TRAINING
from amc.utils.durable_files import write_text
from amc.utils.plain_json import as_type
from amc.utils.plain_yaml import plain_values, read_yaml

_FREE = ("device",)
"""Options that may differ between starts of one training."""
_GROWING = ("episodes", "patience")
"""Options that may be raised, to extend the training."""
_DENSE = "dense-"


def open_training(path: Path, config: RunConfig, rules: Mapping[str, Any]) -> None:
    """Writes the rules of a new training into its folder, or checks that they are the same.

    A training without results may be begun again under other rules; dense networks of the former ones are discarded.

    Args:
        path: The folder; it exists and is locked.
        config: Data, pruning and all that is the same for all tasks.
        rules: Networks, budgets and how the policy is trained; JSON-able.

    Raises:
        RunFolderError: If the folder holds a training with other rules, or something else.
    """
    given = {name: value for name, value in as_mapping(with_absolute_paths(config)).items() if name not in _FREE}
    record = plain_values({**given, **rules})
    file, begun = path / CONFIG, (path / TRAINING).exists() or (path / CHECKPOINT).exists()
    try:
        if begun:
            _check(file, record)
        elif _written(file) != record:
            _discard_networks(path)
        write_text(file, yaml.safe_dump(record, sort_keys=False))
    except OSError as error:
        raise RunFolderError(f"the folder of the training must be writable: {error}; choose another --out") from error


def dense_file(name: str) -> str:
    """Returns the name of the file with a dense network that the training has trained itself."""
    return f"{_DENSE}{name.replace(' ', '-')}.safetensors"


def _written(file: Path) -> Any:
    """Returns the rules in a folder; None if there are none that can be read."""
    try:
        return read_yaml(file)
    except (OSError, ValueError):
        return None


def _discard_networks(path: Path) -> None:
    """Deletes the dense networks that an earlier start has trained: under other rules they may be others."""
    for file in path.glob(f"{_DENSE}*.safetensors"):
        file.unlink()


def _check(file: Path, record: dict[str, Any]) -> None:
    """Rejects rules that differ from those in the folder."""
    try:
        old = as_type(read_yaml(file) or {}, dict[str, Any])
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{file} must hold the rules of a training: {error}; choose another --out") from error
    for name in [*record, *(name for name in old if name not in record)]:
        before, now = old.get(name), record.get(name)
        if before == now or (name in _GROWING and isinstance(before, int) and isinstance(now, int) and now > before):
            continue
        raise RunFolderError(
            f"{file.parent} holds a training with {name} {before}, not {now}; give the same to continue, "
            "or choose another --out"
        )
