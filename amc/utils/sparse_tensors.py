"""Tensors with many zeros in files: a bit for each element, and the values of those that are not zero.

All such tensors of a file lie in a few: `sparse.index` (JSON, as bytes: for each tensor its name, its number format and
its shape), `sparse.bits` (for each tensor in turn one bit per element, padded to whole bytes, the first in the lowest
place) and `sparse.values.FORMAT` (the nonzero elements in memory order). In float32, nine zeros in ten take 13.1% of
the dense tensors' bytes; entries for each tensor would cost a small network 3% more.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from amc.errors import CheckpointError
from amc.utils.bounded_files import DamagedFileError
from amc.utils.file_layout import file_bytes
from amc.utils.plain_json import parse_json

INDEX, BITS, VALUES = "sparse.index", "sparse.bits", "sparse.values."
LEAST_SAVED = 128
"""Bytes that taking a tensor apart must save: more than the header spends on the values of one number format."""
_LARGEST_INDEX, _LARGEST_SIZE = 1 << 24, 1 << 48


def packed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns tensors as a file holds them: as bits and values where that is smaller, the others unchanged.

    Only weights are taken apart, tensors of numbers with a fraction on two axes or more: how large a file is then
    follows from how many weights are not zero.

    Args:
        tensors: By name.
    """
    found, bits = dict(tensors), []
    index: list[list[Any]] = []
    values: dict[str, list[Tensor]] = {}
    for name, tensor in tensors.items():
        flat = tensor.detach().flatten()
        stays = flat != 0
        if not is_weight(tensor.shape, tensor.is_floating_point()):
            continue
        if not is_smaller_packed(len(flat), int(stays.sum()), tensor.element_size()):
            continue
        del found[name]
        index.append(index_entry(name, str(tensor.dtype).removeprefix("torch."), tensor.shape))
        bits.append(torch.from_numpy(np.packbits(stays.cpu().numpy(), bitorder="little")))
        values.setdefault(index[-1][1], []).append(flat[stays])
    if index:
        found[INDEX] = torch.tensor(list(index_text(index)), dtype=torch.uint8)
        found[BITS] = torch.cat(bits)
        found |= {VALUES + dtype: torch.cat(parts) for dtype, parts in values.items()}
    return found if file_bytes(found) < file_bytes(tensors) else dict(tensors)


def is_weight(shape: Sequence[int], has_fraction: bool) -> bool:
    """Returns whether tensors of a shape and kind of number may be taken apart."""
    return has_fraction and len(shape) > 1


def is_smaller_packed(count: int, nonzero: int, value_bytes: int) -> bool:
    """Returns whether a tensor takes clearly fewer bytes as bits and values, given its elements and nonzero ones."""
    return nonzero * value_bytes + bits_bytes(count) + LEAST_SAVED < count * value_bytes


def bits_bytes(count: int) -> int:
    """Returns the bytes that the bits of a tensor of `count` elements take."""
    return -(-count // 8)


def index_entry(name: str, dtype: str, shape: Sequence[int]) -> list[Any]:
    """Returns the index entry of a tensor."""
    return [name, dtype, *shape]


def index_text(index: Sequence[Sequence[Any]]) -> bytes:
    """Returns the index as a file holds it."""
    return json.dumps(index, separators=(",", ":")).encode()


def unpacked(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the tensors of a file, with those that `packed` took apart joined again.

    Raises:
        CheckpointError: If the parts do not fit each other.
    """
    if not is_packed(stored):
        return dict(stored)
    whole = {name: tensor for name, tensor in stored.items() if not is_part(name)}
    bits = stored.get(BITS)
    if bits is None or bits.dtype != torch.uint8 or bits.dim() != 1:
        raise CheckpointError(f"a file with {INDEX} must have {BITS}, bytes in a row; save the network again")
    used, taken = 0, dict.fromkeys((name for name in stored if name.startswith(VALUES)), 0)
    for name, dtype, *shape in index_of(stored[INDEX]):
        count, source = prod(shape), VALUES + dtype
        end = used + -(-count // 8)
        if end > len(bits) or source not in taken:
            raise _unfit(name)
        stays = torch.from_numpy(np.unpackbits(bits[used:end].numpy(), count=count, bitorder="little")).bool()
        first, taken[source] = taken[source], taken[source] + int(stays.sum())
        if stored[source].dim() != 1 or taken[source] > len(stored[source]):
            raise _unfit(name)
        whole[name] = stored[source].new_zeros(count)
        whole[name][stays] = stored[source][first : taken[source]]
        whole[name], used = whole[name].reshape(shape), end
    if used != len(bits) or any(len(stored[source]) != count for source, count in taken.items()):
        raise _unfit("the last")
    return whole


def is_packed(stored: Mapping[str, Tensor]) -> bool:
    """Returns whether any tensor of a file was taken apart."""
    return INDEX in stored


def is_part(name: str) -> bool:
    """Returns whether a tensor of a file holds parts of others."""
    return name in (INDEX, BITS) or name.startswith(VALUES)


def index_of(tensor: Tensor) -> list[list[Any]]:
    """Reads which tensors were taken apart: name, number format and sizes of each.

    Raises:
        CheckpointError: If it is damaged.
    """
    try:
        if tensor.numel() > _LARGEST_INDEX:
            raise DamagedFileError(f"it must have at most {_LARGEST_INDEX:,} bytes")
        index = parse_json(bytes(tensor.tolist()).decode("utf-8"))
        fits = all(
            isinstance(name, str) and isinstance(dtype, str) and all(map(_is_size, shape))
            for name, dtype, *shape in index
        )
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{INDEX} must be readable JSON: {error}; save the network again") from error
    if not fits:
        raise CheckpointError(f"{INDEX} must list names, number formats and sizes; save the network again")
    return list(index)


def _is_size(size: Any) -> bool:
    return type(size) is int and 0 <= size < _LARGEST_SIZE


def _unfit(name: str) -> CheckpointError:
    return CheckpointError(
        f"the file must have a bit for each element of its sparse tensors and a value for each bit that is set, which "
        f"does not hold of {name!r}; save the network again"
    )
