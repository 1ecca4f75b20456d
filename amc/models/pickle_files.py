"""Reading files of `torch.save`: tensors and plain containers, no code, and no more than the file holds."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from amc.errors import CheckpointError
from amc.utils.bounded_files import opened

_BESIDE = {"scalar": "a NumPy number", "Namespace": "an argparse.Namespace", "_reconstruct": "a NumPy array"}


def read_pickle(file: Path) -> Any:
    """Reads a file of `torch.save` onto the CPU: tensors and plain containers, nothing else.

    Raises:
        CheckpointError: If the file is unreadable, holds anything else, or unpacks to more than it has bytes.
    """
    try:
        _check_size(file)
        content = torch.load(file, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{file} holds {_what_else(error)}, which may run any code and is refused; where you trust it, save its "
            "weights with torch.save(model.state_dict(), FILE) and load those"
        ) from error
    except Exception as error:  # The reader meets arbitrary bytes with errors of any kind, IndexError among them.
        raise CheckpointError(f"{file} is not a readable PyTorch file: {type(error).__name__}: {error}") from error
    for tensor in tensors_within(content):
        _check_plain(tensor, file)
    return content


def _check_size(file: Path) -> None:
    """Rejects archives that unpack to more than their own size: `torch.save` compresses nothing.

    Raises:
        OSError: If it cannot be read, or is not an ordinary file.
    """
    with opened(file) as content:
        if not zipfile.is_zipfile(content):
            return
        held = content.seek(0, 2)
        with zipfile.ZipFile(content) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > held:
        raise CheckpointError(
            f"{file} must unpack to no more than its {held:,} bytes, as what torch.save writes, but unpacks to "
            f"{unpacked:,}"
        )


def tensors_within(content: Any) -> Iterator[Tensor]:
    """Yields all tensors in nested plain containers, each once however often it occurs."""
    pending, seen = [content], set()
    while pending:
        value = pending.pop()
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, Mapping | list | tuple | set) and id(value) not in seen:
            seen.add(id(value))
            pending += value.values() if isinstance(value, Mapping) else value


def _check_plain(tensor: Tensor, file: Path) -> None:
    """Rejects tensors without values of their own: on no device, sparse, quantised, nested or of other classes."""
    is_plain = type(tensor) in (Tensor, nn.Parameter) and tensor.layout == torch.strided and tensor.device.type == "cpu"
    if not is_plain or tensor.is_quantized or tensor.is_nested:
        raise CheckpointError(
            f"{file} must hold plain tensors, and holds one of the class {type(tensor).__name__}, the layout "
            f"{tensor.layout}, on {tensor.device}, of type {tensor.dtype}"
        )


def _what_else(error: pickle.UnpicklingError) -> str:
    """Describes what a file holds that is neither tensor nor plain container, as PyTorch's reader names it."""
    found = re.search(r"GLOBAL ([\w.]+)", str(error))
    if found is None:
        return "more than tensors, or is no PyTorch file"
    name = found[1].rpartition(".")[2]
    return f"{_BESIDE.get(name, 'more than tensors: an object of another class')} ({found[1]}) beside its weights"
