"""The file of a packed network: it contains no code, and everything is checked on reading.

Eight bytes that name the format; SHA-256 of the rest; the length of the head, four bytes; the head, JSON
compressed by zlib; the tensors, one after another. The head holds what the writer recorded of the network (such as how
the dense one was cut), and an `Entry` for each tensor.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from torch import Tensor

from amc.packing.codec import Coded, Entry, decoded
from amc.utils.bounded_files import DamagedFileError, read_bytes
from amc.utils.durable_files import replacing
from amc.utils.format_numbers import other_version
from amc.utils.plain_json import as_type, parse_json

FORMAT = 1
_MAGIC = b"amc-pack"
_LENGTH = struct.Struct("<I")
_MOST_BYTES = 1 << 32
_SMALL_HEAD, _MOST_HEAD = 1 << 22, 1 << 24
"""Largest head in bytes, uncompressed, of a small file and of any: reading takes a second for every 4 MiB or so."""
_HEAD_SHARE = 4
"""A head may have this part of the file's bytes: networks with long heads have many more weights."""


class _Head(msgspec.Struct):
    """The head of a file."""

    format: int
    record: dict[str, Any]
    tensors: list[Entry]


@dataclass(frozen=True)
class Archive:
    """A packed network that has been read, with its tensors still encoded.

    Attributes:
        record: What was recorded of the network.
        entries: What the file says about each tensor, by name.
        size_bytes: Size of the file.
        contents: What each tensor stores, by name.
    """

    record: dict[str, Any]
    entries: dict[str, Entry]
    size_bytes: int
    contents: dict[str, bytes]

    def tensors(self) -> dict[str, Tensor]:
        """Returns the tensors; check their shapes first, as they are made by what the file says.

        Raises:
            DamagedFileError: If one does not match the file's description.
        """
        return {name: decoded(entry, self.contents[name]) for name, entry in self.entries.items()}


def write_archive(
    path: Path, record: Mapping[str, Any], tensors: Iterable[Coded], check: Callable[[Path], object]
) -> int:
    """Replaces a file at once, unless `check` raises an error for what was written; returns its size in bytes."""
    stored = list(tensors)
    head = {"format": FORMAT, "record": dict(record), "tensors": [msgspec.to_builtins(one.entry) for one in stored]}
    text = zlib.compress(json.dumps(head, separators=(",", ":")).encode(), 9)
    rest = b"".join([_LENGTH.pack(len(text)), text, *(one.content for one in stored)])
    content = _MAGIC + hashlib.sha256(rest).digest() + rest
    with replacing(path) as partial:
        partial.write_bytes(content)
        check(partial)
    return len(content)


def read_archive(path: Path) -> Archive:
    """Reads a file that `write_archive` wrote.

    Raises:
        OSError: If it cannot be read, or is not an ordinary file.
        DamagedFileError: If it is a file of another kind, or was changed.
    """
    content = read_bytes(path, _MOST_BYTES)
    start = len(_MAGIC) + hashlib.sha256().digest_size
    if not content.startswith(_MAGIC) or len(content) < start + _LENGTH.size:
        raise DamagedFileError("it is not a packed network")
    if hashlib.sha256(content[start:]).digest() != content[len(_MAGIC) : start]:
        raise DamagedFileError("it is not as it was written")
    (length,) = _LENGTH.unpack_from(content, start)
    at = start + _LENGTH.size + length
    if at > len(content):
        raise DamagedFileError("its head must lie within it")
    most = min(_MOST_HEAD, max(_SMALL_HEAD, len(content) // _HEAD_SHARE))
    head = _head(content[start + _LENGTH.size : at], most)
    if sum(entry.bytes for entry in head.tensors) != len(content) - at:
        raise DamagedFileError("it must hold the bytes of its tensors, and no others")
    entries, contents = {entry.name: entry for entry in head.tensors}, {}
    if len(entries) < len(head.tensors):
        raise DamagedFileError("it must hold each tensor once")
    for name, entry in entries.items():
        contents[name] = content[at : at + entry.bytes]
        at += entry.bytes
    return Archive(head.record, entries, len(content), contents)


def _head(text: bytes, most: int) -> _Head:
    """Reads a head that has at most some bytes, uncompressed."""
    inflating = zlib.decompressobj()
    try:
        plain = inflating.decompress(text, most)
        if not inflating.eof:
            raise DamagedFileError(f"its head must have at most {most:,} bytes")
        record = parse_json(plain.decode("utf-8"))
        held = record.get("format") if isinstance(record, dict) else FORMAT
        if (words := other_version(held, FORMAT, older="pack the network again")) is not None:
            raise DamagedFileError(f"it {words}")
        if held != FORMAT:
            raise DamagedFileError(f"it must be of format {FORMAT}, not {str(held)[:20]}")
        return as_type(record, _Head)
    except (zlib.error, UnicodeDecodeError) as error:
        raise DamagedFileError(f"its head cannot be read: {error}") from error
