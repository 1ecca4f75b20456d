"""Saving a pruned network: safetensors and a JSON architecture, which `amc.load` reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from amc.storage.names import ARCHITECTURE, WEIGHTS
from amc.utils.durable_files import replacing, write_text


def save_network(folder: Path, model: nn.Module, architecture: Mapping[str, Any]) -> None:
    """Writes `architecture.json` and `model.safetensors` into a folder that exists.

    Args:
        folder: The folder.
        model: The pruned network.
        architecture: What `amc.storage.architecture.describe` returned for it.
    """
    write_text(folder / ARCHITECTURE, json.dumps(architecture, indent=1) + "\n")
    save_weights(folder / WEIGHTS, model)


def save_weights(file: Path, model: nn.Module) -> None:
    """Replaces a safetensors file at once."""
    from safetensors.torch import save_model

    with replacing(file) as partial:
        save_model(model, str(partial))
