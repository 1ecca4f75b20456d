"""What is kept in the user's cache folder from one run to the next: tensors that cost time to make."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from torch import Tensor

from amc.utils.durable_files import remove_abandoned, replacing


def default_cache_folder() -> Path:
    """Returns the folder `amc` below the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "amc"


def keep_entry(entry: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes an entry; a full disk or a read-only home only costs time in the next run."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with suppress(SafetensorError, OSError):
        entry.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(entry.parent)
        with replacing(entry) as unfinished:
            save_file(dict(tensors), unfinished)


def read_entry(entry: Path) -> dict[str, Tensor]:
    """Reads an entry; nothing if there is none, or a damaged one, which is replaced then."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(entry) if entry.is_file() else {}
    except (SafetensorError, OSError):
        return {}
