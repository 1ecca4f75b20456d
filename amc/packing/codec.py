"""One tensor in few bytes, and back, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Annotated, Literal

import msgspec
import numpy as np
import torch
from torch import Tensor

from amc.packing.huffman import (
    BLOCK,
    MOST_SYMBOLS,
    Bytes,
    Integers,
    code_lengths,
    decode,
    encode,
    packed_lengths,
    unpacked_lengths,
)
from amc.packing.sparse_index import gaps_of, places_of
from amc.utils.bounded_files import DamagedFileError

MOST_VALUES = 256
"""Largest number of values that a tensor's own table holds."""
MOST_INDEX_BITS = 8
_LARGEST = 1 << 40

DTYPES: Mapping[str, torch.dtype] = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.bool),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8),
    )
}
"""The number formats that a file may hold, by name."""


class Entry(msgspec.Struct, forbid_unknown_fields=True):
    """What a file says about a tensor.

    Attributes:
        name: Its name.
        dtype: Its number format.
        shape: Its sizes.
        coding: Whether it is as it is; places and values; or places, and codes into a table of values.
        bytes: Size of what is stored.
        symbols: Stored differences of places, fillers included.
        values: Values in the table.
        index_bits: Bits of a stored difference before it is coded.
    """

    name: Annotated[str, msgspec.Meta(max_length=1000)]
    dtype: str
    shape: Annotated[list[Annotated[int, msgspec.Meta(ge=0, le=_LARGEST)]], msgspec.Meta(max_length=16)]
    coding: Literal["plain", "sparse", "shared"]
    bytes: Annotated[int, msgspec.Meta(ge=0)]
    symbols: Annotated[int, msgspec.Meta(ge=0)] = 0
    values: Annotated[int, msgspec.Meta(ge=0, le=MOST_VALUES)] = 0
    index_bits: Annotated[int, msgspec.Meta(ge=0, le=MOST_INDEX_BITS)] = 0

    @property
    def length(self) -> int:
        """Number of elements."""
        return prod(self.shape)


@dataclass(frozen=True)
class Coded:
    """A tensor as a file holds it.

    Attributes:
        entry: What the file says of it.
        content: What it stores.
        bits: Bits of `content`, by what they are: codes, places, values, tables.
    """

    entry: Entry
    content: bytes
    bits: Mapping[str, int] = field(default_factory=dict)


def coded(name: str, tensor: Tensor, index_bits: int) -> Coded:
    """Returns a tensor in the coding that takes the fewest bytes.

    Args:
        name: Its name.
        tensor: On the CPU.
        index_bits: Bits of a stored difference of places; fewer where the longest needs fewer.
    """
    flat = tensor.detach().flatten().contiguous()
    steps = flat.nonzero().flatten().diff(prepend=torch.tensor([-1])) - 1
    index_bits = min(index_bits, int(steps.max()).bit_length() if len(steps) else 0)
    found = [_plain(name, tensor, flat)]
    if flat.is_floating_point() and len(flat) and bool(torch.isfinite(flat).all()):
        values = torch.unique(flat[flat != 0])
        found.append(_sparse(name, tensor, flat, index_bits))
        if len(values) <= MOST_VALUES:
            found.append(_shared(name, tensor, flat, values, index_bits))
    return min(found, key=lambda one: len(one.content))


def decoded(entry: Entry, content: bytes) -> Tensor:
    """Returns the tensor of an entry.

    Args:
        entry: What the file says about it; its shape is not checked here.
        content: What it stores.

    Raises:
        DamagedFileError: If the content is not what the entry says.
    """
    dtype = DTYPES.get(entry.dtype)
    if dtype is None:
        raise DamagedFileError(f"the number format of {entry.name[:80]!r} must be known, and is {entry.dtype[:20]!r}")
    if entry.coding == "plain":
        return _elements(_Reader(content), dtype, entry.length, last=True).reshape(entry.shape)
    if not dtype.is_floating_point or entry.symbols > entry.length:
        raise DamagedFileError(f"a sparse tensor must be of numbers, no more than it has places: {entry.name[:80]!r}")
    reader, flat = _Reader(content), torch.zeros(entry.length, dtype=dtype)
    blocks = -(-entry.symbols // BLOCK)
    if entry.coding == "sparse":
        values = _elements(reader, dtype, entry.symbols)
    else:
        table = torch.cat([torch.zeros(1, dtype=dtype), _elements(reader, dtype, entry.values)])
        lengths = reader.lengths(entry.values + 1)
    gap_lengths = reader.lengths(1 << entry.index_bits)
    if entry.coding == "shared":
        values = table[torch.from_numpy(reader.symbols(blocks, lengths, entry.symbols))]
    gaps = reader.symbols(blocks, gap_lengths, entry.symbols)
    reader.end()
    flat[torch.from_numpy(places_of(gaps, entry.length))] = values
    return flat.reshape(entry.shape)


class _Reader:
    """Reads a tensor's content, from the first byte to the last."""

    def __init__(self, content: bytes) -> None:
        self._content, self._at = np.frombuffer(content, np.uint8), 0

    def take(self, count: int) -> Bytes:
        """Returns the next bytes."""
        if count < 0 or self._at + count > len(self._content):
            raise DamagedFileError("a stored tensor must have all its bytes")
        self._at += count
        return self._content[self._at - count : self._at]

    def lengths(self, count: int) -> Bytes:
        """Returns the lengths of a code's words."""
        assert count <= MOST_SYMBOLS
        return unpacked_lengths(self.take(-(-count // 2)), count)

    def symbols(self, blocks: int, lengths: Bytes, count: int) -> Integers:
        """Returns what a code wrote."""
        sizes = self.take(2 * blocks).view("<u2").astype(np.uint16)
        return decode(self.take(-(-int(sizes.sum(dtype=np.int64)) // 8)), sizes, lengths, count)

    def end(self) -> None:
        """Raises if something is left."""
        if self._at != len(self._content):
            raise DamagedFileError("a stored tensor must have no more bytes than it needs")


def _elements(reader: _Reader, dtype: torch.dtype, count: int, *, last: bool = False) -> Tensor:
    size = torch.empty(0, dtype=dtype).element_size()
    held = reader.take(count * size)
    if last:
        reader.end()
    return torch.from_numpy(held.copy()).view(dtype) if count else torch.empty(0, dtype=dtype)


def _bytes_of(flat: Tensor) -> bytes:
    return flat.contiguous().view(torch.uint8).numpy().tobytes() if len(flat) else b""


def _entry(name: str, tensor: Tensor, coding: Literal["plain", "sparse", "shared"], size: int) -> Entry:
    return Entry(name, str(tensor.dtype).removeprefix("torch."), list(tensor.shape), coding, size)


def _plain(name: str, tensor: Tensor, flat: Tensor) -> Coded:
    content = _bytes_of(flat)
    return Coded(_entry(name, tensor, "plain", len(content)), content, {"values": 8 * len(content)})


def _sparse(name: str, tensor: Tensor, flat: Tensor, index_bits: int) -> Coded:
    gaps, places = gaps_of(flat.nonzero().flatten().numpy(), index_bits)
    values = flat.new_zeros(len(gaps))
    values[torch.from_numpy(places)] = flat[flat != 0]
    table, stream = _written(gaps, 1 << index_bits)
    stored = _bytes_of(values)
    entry = _entry(name, tensor, "sparse", len(stored) + len(table) + len(stream))
    entry.symbols, entry.index_bits = len(gaps), index_bits
    bits = {"values": 8 * len(stored), "tables": 8 * len(table), "places": 8 * len(stream)}
    return Coded(entry, stored + table + stream, bits)


def _shared(name: str, tensor: Tensor, flat: Tensor, values: Tensor, index_bits: int) -> Coded:
    gaps, places = gaps_of(flat.nonzero().flatten().numpy(), index_bits)
    codes = np.zeros(len(gaps), np.int64)  # 0 is the filler's zero
    codes[places] = torch.searchsorted(values, flat[flat != 0]).numpy() + 1
    code_table, code_stream = _written(codes, len(values) + 1)
    gap_table, gap_stream = _written(gaps, 1 << index_bits)
    stored = _bytes_of(values)
    content = stored + code_table + gap_table + code_stream + gap_stream
    entry = _entry(name, tensor, "shared", len(content))
    entry.symbols, entry.values, entry.index_bits = len(gaps), len(values), index_bits
    tables = len(stored) + len(code_table) + len(gap_table)
    return Coded(entry, content, {"codes": 8 * len(code_stream), "places": 8 * len(gap_stream), "tables": 8 * tables})


def _written(symbols: Integers, alphabet: int) -> tuple[bytes, bytes]:
    """Returns the table of a code for symbols, and the symbols written by it, block sizes first."""
    lengths = code_lengths(np.bincount(symbols, minlength=alphabet))
    bits, blocks = encode(symbols, lengths)
    return packed_lengths(lengths), blocks.astype("<u2").tobytes() + bits.tobytes()
