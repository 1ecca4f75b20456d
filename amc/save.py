"""Saving a pruned network: safetensors and a JSON architecture, which `amc.load` reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from amc.loading import ARCHITECTURE, WEIGHTS


def save_network(folder: Path, model: nn.Module, architecture: Mapping[str, Any]) -> None:
    """Writes `architecture.json` and `model.safetensors` into a folder that exists.

    Args:
        folder: The folder.
        model: The pruned network.
        architecture: What `amc.architecture.describe` returned for it.
    """
    from safetensors.torch import save_model

    (folder / ARCHITECTURE).write_text(json.dumps(architecture, indent=1) + "\n", encoding="utf-8")
    partial = folder / f"{WEIGHTS}.part"
    save_model(model, str(partial))
    # safetensors makes files that only their owner may read; a run's files are all alike.
    partial.chmod((folder / ARCHITECTURE).stat().st_mode)
    partial.replace(folder / WEIGHTS)
