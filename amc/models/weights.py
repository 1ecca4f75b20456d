"""Reading weights files safely and loading them into a network."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from amc.errors import CheckpointError, ModelError
from amc.runtime.finite import all_finite

_WRAPPERS = ("state_dict", "model", "model_state_dict")
_PREFIX = "module."
_SHOWN = 4


def load_weights(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Loads a weights file into a network, in place and strictly.

    Args:
        model: The network.
        path: As for `read_state_dict`.

    Raises:
        CheckpointError: If the file cannot be read safely, or keys or shapes do not fit the network.
        ModelError: If a tensor holds NaN or infinite values.
    """
    state = read_state_dict(path)
    _check_fit(model, state, Path(path))
    check_finite(state)
    model.load_state_dict(state, strict=False)


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Reads a state dict, without running any code that the file may hold.

    Args:
        path: A `.safetensors` file, or one written by `torch.save` (`.th`, `.pt`, `.pth`, ...). A dict that wraps the
            state dict as `state_dict`, `model` or `model_state_dict` is unwrapped, and the prefix `module.` of
            `nn.DataParallel` is stripped from the names.

    Raises:
        CheckpointError: If the file is missing, unreadable, or holds anything else than tensors by name.
    """
    file = Path(path)
    if not file.is_file():
        raise CheckpointError(f"the weights file must exist: no file at {file}")
    loaded = _read_safetensors(file) if file.suffix == ".safetensors" else read_pickle(file)
    return _strip_prefix(_unwrap(loaded, file))


def check_finite(state: Mapping[str, Tensor]) -> None:
    """Refuses weights that are not numbers.

    Raises:
        ModelError: If a tensor holds NaN or infinite values; the message names it.
    """
    for name, tensor in state.items():
        if tensor.is_floating_point() and not all_finite(tensor):
            raise ModelError(f"weights must be finite: tensor {name!r} holds NaN or infinite values; train it anew")


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    """Reads a safetensors file onto the CPU."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file} is not a readable safetensors file: {error}") from error


def read_pickle(file: Path) -> Any:
    """Reads what `torch.save` wrote onto the CPU: tensors and plain containers, nothing else.

    Raises:
        CheckpointError: If the file is unreadable or holds anything else.
    """
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{file} holds more than tensors, or is no PyTorch file (a whole pickled module may run any code and is "
            "refused); where you trust it, save its weights with torch.save(model.state_dict(), FILE) and load those"
        ) from error
    except Exception as error:  # The reader meets arbitrary bytes with errors of any kind, IndexError among them.
        raise CheckpointError(f"{file} is not a readable PyTorch file: {type(error).__name__}: {error}") from error


def _unwrap(loaded: Any, file: Path) -> dict[str, Tensor]:
    """Finds the tensors by name in what a file held."""
    if isinstance(loaded, Mapping):
        for key in _WRAPPERS:
            if isinstance(loaded.get(key), Mapping):
                loaded = loaded[key]
                break
    if not isinstance(loaded, Mapping) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise CheckpointError(f"{file} must hold a state dict (tensors by name); save one with model.state_dict()")
    return {str(name): tensor for name, tensor in loaded.items()}


def _strip_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Removes what `nn.DataParallel` puts before every name."""
    if all(name.startswith(_PREFIX) for name in state):
        return {name[len(_PREFIX) :]: tensor for name, tensor in state.items()}
    return state


def _check_fit(model: nn.Module, state: Mapping[str, Tensor], file: Path) -> None:
    """Compares names and shapes, and names the first that differ."""
    own = model.state_dict()
    # Files older than PyTorch 0.4 lack the counter of batches, which inference does not read.
    missing = [name for name in own if name not in state and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in state if name not in own]
    misshaped = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in own.items()
        if name in state and state[name].shape != tensor.shape
    ]
    problems = [
        f"{title}: {_first(names)}"
        for title, names in (("missing", missing), ("unexpected", unexpected), ("other shape", misshaped))
        if names
    ]
    if problems:
        raise CheckpointError(
            f"{file} does not fit {type(model).__name__}; {'; '.join(problems)}. "
            "Choose the model and number of classes that the file was saved from"
        )


def _first(names: list[str]) -> str:
    """Lists the first few names and counts the rest."""
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
