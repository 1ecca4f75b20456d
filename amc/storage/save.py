"""Saving a pruned network: safetensors and a JSON architecture, which `amc.load` reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from amc.storage.names import ARCHITECTURE, WEIGHTS
from amc.storage.written_files import record_written
from amc.utils.durable_files import replacing, write_text
from amc.utils.file_layout import tensors_by_names
from amc.utils.sealed_tensors import seal
from amc.utils.sparse_tensors import packed


def save_network(folder: Path, model: nn.Module, architecture: Mapping[str, Any]) -> None:
    """Writes `architecture.json` and `model.safetensors` into a folder that exists; see `amc.storage.written_files`.

    Args:
        folder: The folder.
        model: The pruned network.
        architecture: What `amc.storage.architecture.describe` returned for it.
    """
    write_text(folder / ARCHITECTURE, json.dumps(architecture, indent=1) + "\n")
    save_weights(folder / WEIGHTS, model)
    record_written(folder, WEIGHTS)


def save_weights(file: Path, model: nn.Module) -> None:
    """Replaces a safetensors file at once; weights with many zeros are stored as `amc.utils.sparse_tensors` says."""
    from safetensors.torch import save_file

    tensors = {name: tensor.contiguous() for name, tensor in packed(distinct_tensors(model)).items()}
    with replacing(file) as partial:
        save_file(tensors, str(partial), metadata=seal(tensors))


def distinct_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Returns a network's tensors by name; of those that are shared the first by name, as a file stores them."""
    return {names[0]: tensor for names, tensor in tensors_by_names(model.state_dict())}
