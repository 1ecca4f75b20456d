"""Packed networks as files: one file with shared weights, sparse indices and Huffman codes, which `amc.load` reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from torch import Tensor, nn

from amc.errors import CheckpointError
from amc.packing.archive import Archive, read_archive, write_archive
from amc.packing.codec import DTYPES, Coded, coded
from amc.storage.fit import StoredTensor, WeightsHeader
from amc.storage.save import distinct_tensors
from amc.storage.source import ModelSource
from amc.utils.file_layout import file_bytes
from amc.utils.plain_json import as_type
from amc.utils.progress import Progress, silent
from amc.utils.sparse_tensors import packed

_INDEX_BITS = 5
_REMEDY = "copy it again, or pack the run again with amc pack"


class _Record(msgspec.Struct):
    """What is recorded of a packed network."""

    architecture: dict[str, Any]


def save_packed(
    path: Path,
    model: nn.Module,
    architecture: Mapping[str, Any],
    index_bits: Mapping[str, int],
    advance: Progress = silent,
    check: Callable[[Path], object] = lambda written: None,
) -> tuple[int, dict[str, Coded]]:
    """Writes a network into one file, without loss.

    Args:
        path: The file; its folder exists.
        model: The network, on the CPU.
        architecture: What `amc.storage.architecture.describe` returned for it.
        index_bits: Bits of a stored difference of places, by the name of a tensor; 5 for others.
        advance: Takes the share that is done, 0 to 1, as it grows.
        check: Reads what was written, before it is put in place; after an error from it the old file is unchanged.

    Returns:
        The size of the file in bytes, and each tensor as the file holds it.
    """
    tensors = distinct_tensors(model)
    total, done, stored = sum(tensor.numel() for tensor in tensors.values()), 0, {}
    for name, tensor in tensors.items():
        stored[name] = coded(name, tensor, index_bits.get(name, _INDEX_BITS))
        done += tensor.numel()
        advance(done / max(1, total))
    return write_archive(path, {"architecture": dict(architecture)}, stored.values(), check), stored


def open_packed(file: Path) -> Archive:
    """Reads a packed network's file without decoding its tensors.

    Raises:
        CheckpointError: If it is a file of another kind, or damaged.
    """
    try:
        archive = read_archive(file)
        as_type(archive.record, _Record)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} must be a packed network that can be read: {error}; {_REMEDY}") from error
    return archive


def packed_tensors(archive: Archive, file: Path) -> dict[str, Tensor]:
    """Returns the tensors of a packed network whose shapes have been checked.

    Raises:
        CheckpointError: If they are damaged.
    """
    try:
        return archive.tensors()
    except ValueError as error:
        raise CheckpointError(f"{file} must be a packed network that can be read: {error}; {_REMEDY}") from error


def header_of(archive: Archive) -> WeightsHeader:
    """Returns what a packed network's file says of its tensors, as the header of a weights file."""
    stored = {
        name: StoredTensor(tuple(entry.shape), DTYPES.get(entry.dtype)) for name, entry in archive.entries.items()
    }
    return WeightsHeader(stored, archive.size_bytes)


def dense_size(architecture: Mapping[str, Any], model: nn.Module) -> int | None:
    """Returns the bytes of the dense network's weights file; None if it cannot be built again by its name.

    Args:
        architecture: How it was cut.
        model: The pruned network, which is as large where nothing was cut.
    """
    dense = ModelSource(**architecture["source"]).outline() if architecture["tensors"] else model
    if dense is None:
        return None
    places: dict[int, tuple[str, Tensor]] = {}
    kept = dense.state_dict()
    every = [*dense.named_parameters(remove_duplicate=False), *dense.named_buffers(remove_duplicate=False)]
    for name, tensor in sorted(every, key=lambda pair: pair[0]):
        if name in kept:
            places.setdefault(id(tensor), (name, tensor))
    return file_bytes(dict(places.values()))


def unpacked_size(model: nn.Module) -> int:
    """Returns the bytes that a network takes as safetensors, its zeros as a bit each."""
    return file_bytes(packed(distinct_tensors(model)))
