"""Reading weights files safely and loading them into a network."""

from __future__ import annotations

import os
from collections.abc import Collection, Container, Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from amc.errors import CheckpointError, ModelError
from amc.models.pickle_files import read_pickle
from amc.runtime.finite import holds_numbers
from amc.utils.sealed_tensors import read_sealed
from amc.utils.sparse_tensors import unpacked

_WRAPPERS = (
    "state_dict", "model", "model_state_dict", "net", "network", "weights", "model_state", "params", "module",
    "state_dict_ema", "model_ema", "params_ema", "ema",
)  # fmt: skip
"""Keys under which training scripts store a state dict. Where a file has several, the first is used."""
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.")
"""Prefixes that wrappers add to names: `nn.DataParallel`, `torch.compile`, and modules that hold the network."""
_SHOWN = 4
_NESTED = 8


def load_weights(model: nn.Module, path: str | os.PathLike[str], *, replace_head: bool = False) -> tuple[str, ...]:
    """Loads a weights file into a network, in place and strictly.

    Prefixes that wrappers put before all names are stripped where the names fit the network then.

    Args:
        model: The network.
        path: As for `read_state_dict`.
        replace_head: Whether a last layer for another number of classes may stay as the network has it.

    Returns:
        Names of the layers that stay as they are because the file has them for another number of classes.

    Raises:
        CheckpointError: If the file cannot be read safely, or keys or shapes do not fit the network.
        ModelError: If a tensor holds NaN or infinite values.
    """
    state = _without_prefixes(model, read_state_dict(path))
    head = other_head(model, state) if replace_head else ()
    state = {name: tensor for name, tensor in state.items() if name.rpartition(".")[0] not in head}
    _check_fit(model, state, Path(path), head)
    check_finite(state, dict(model.named_buffers()))
    model.load_state_dict(state, strict=False)
    return head


def check_exists(file: Path) -> None:
    """Checks that there is a weights file.

    Raises:
        CheckpointError: If there is none.
    """
    if not file.is_file():
        raise CheckpointError(f"the weights file must exist: no file at {file}{_in_its_place(file)}")


def _in_its_place(file: Path) -> str:
    """Says that a folder is there, and how to use it if it is a run."""
    if not file.is_dir():
        return ""
    if (file / "dense.safetensors").is_file():
        return f", but the folder of a run; its dense network's weights are {file / 'dense.safetensors'}"
    if (file / "model.safetensors").is_file():
        return f", but the folder of a network; --model {file} prunes it further"
    return ", but a folder"


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Reads a state dict, without running any code in the file.

    Args:
        path: A `.safetensors` file, or one written by `torch.save` (`.th`, `.pt`, `.pth`, ...). A state dict inside
            another dict, as training scripts save it (`state_dict`, `model`, `ema`, ...), is found.

    Raises:
        CheckpointError: If the file is missing, unreadable, or holds anything other than tensors by name.
    """
    file = Path(path)
    check_exists(file)
    loaded = _read_safetensors(file) if file.suffix == ".safetensors" else read_pickle(file)
    return _unwrap(loaded, file)


def other_head(model: nn.Module, state: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Returns the layers that a state dict has for another number of classes than the network.

    They are those whose tensors differ in the length of their first axis, all of them by the same two numbers, and
    auxiliary heads are among them; none if anything else differs.
    """
    own = model.state_dict()
    differing = {name: (state[name], tensor) for name, tensor in own.items() if _differs(state.get(name), tensor)}
    lengths = {(len(theirs), len(ours)) for theirs, ours in differing.values() if theirs.dim() and ours.dim()}
    alike = all(theirs.shape[1:] == ours.shape[1:] for theirs, ours in differing.values())
    if len(lengths) != 1 or not alike:
        return ()
    layers = tuple(dict.fromkeys(name.rpartition(".")[0] for name in differing))
    return layers if layers and layers[-1] == _last_layer(model) else ()


def _differs(theirs: Tensor | None, ours: Tensor) -> bool:
    return theirs is not None and theirs.shape != ours.shape


def _last_layer(model: nn.Module) -> str:
    """Returns the name of the last module that has weights."""
    weighted = [name for name, module in model.named_modules() if isinstance(getattr(module, "weight", None), Tensor)]
    return str(weighted[-1])


def check_finite(state: Mapping[str, Tensor], buffers: Container[str] = ()) -> None:
    """Rejects weights that are not finite.

    Args:
        state: The tensors by name.
        buffers: The names of those that are buffers, which may be infinite.

    Raises:
        ModelError: If a tensor holds NaN or infinite values; the message names it.
    """
    for name, tensor in state.items():
        if not holds_numbers(name, tensor, buffers):
            raise ModelError(f"weights must be finite: tensor {name!r} holds NaN or infinite values; train it again")


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    """Reads a safetensors file onto the CPU."""
    from safetensors import SafetensorError

    try:
        return unpacked(read_sealed(str(file)))
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file} is not a readable safetensors file: {error}") from error


def _unwrap(loaded: Any, file: Path) -> dict[str, Tensor]:
    """Finds the tensors by name in what a file held."""
    content = loaded
    for _ in range(_NESTED):  # a dict that a pickle holds may hold itself
        if not isinstance(content, Mapping) or _is_state_dict(content):
            break
        inner = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    if not isinstance(content, Mapping) or not _is_state_dict(content):
        raise CheckpointError(
            f"{file} must hold a state dict (tensors by name), but holds {_content(content)}; save one with "
            "torch.save(model.state_dict(), FILE)"
        )
    return {str(name): tensor for name, tensor in content.items()}


def _is_state_dict(content: Mapping[Any, Any]) -> bool:
    return all(isinstance(value, Tensor) for value in content.values())


def _content(content: Any) -> str:
    """Describes what was found in place of a state dict."""
    if not isinstance(content, Mapping):
        return f"a {type(content).__name__}"
    return _first([f"{key} ({type(value).__name__})" for key, value in content.items()])


def _without_prefixes(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Strips prefixes of wrappers if the names then match the network's; otherwise leaves the names alone."""
    wanted = _without_counters(model.state_dict())
    stripped = state
    while _without_counters(stripped) != wanted:
        prefix = next((text for text in _PREFIXES if stripped and all(name.startswith(text) for name in stripped)), "")
        if not prefix:
            return state
        stripped = {name[len(prefix) :]: tensor for name, tensor in stripped.items()}
    return stripped


def _without_counters(names: Iterable[str]) -> set[str]:
    """Drops the counters of batches, which files from before PyTorch 0.4 lack and inference does not need."""
    return {name for name in names if not name.endswith("num_batches_tracked")}


def _check_fit(model: nn.Module, state: Mapping[str, Tensor], file: Path, head: Collection[str] = ()) -> None:
    """Compares names and shapes, except those of a replaced head, and reports the first that differ."""
    own = {name: tensor for name, tensor in model.state_dict().items() if name.rpartition(".")[0] not in head}
    missing = [name for name in own if name in _without_counters(own) and name not in state]
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
            "choose the model that the file was saved from, and its number of classes with --classes"
        )


def _first(names: list[str]) -> str:
    """Lists the first few names and counts the rest."""
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
