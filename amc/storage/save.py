"""Saving a pruned network: safetensors and a JSON architecture, which `amc.load` reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from amc.storage.load import ARCHITECTURE, WEIGHTS


def save_network(folder: Path, model: nn.Module, architecture: Mapping[str, Any]) -> None:
    """Writes `architecture.json` and `model.safetensors` into a folder that exists.

    Args:
        folder: The folder.
        model: The pruned network.
        architecture: What `amc.storage.architecture.describe` returned for it.
    """
    (folder / ARCHITECTURE).write_text(json.dumps(architecture, indent=1) + "\n", encoding="utf-8")
    save_weights(folder / WEIGHTS, model)


def save_weights(file: Path, model: nn.Module) -> None:
    """Replaces a safetensors file at once."""
    from safetensors.torch import save_model

    partial = file.with_name(f"{file.name}.part")
    partial.unlink(missing_ok=True)
    partial.touch()
    # safetensors makes files that only their owner may read; a run's files are all alike.
    mode = partial.stat().st_mode
    save_model(model, str(partial))
    partial.chmod(mode)
    partial.replace(file)
