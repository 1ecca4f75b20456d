"""The ordinary files inside a tar file, found by one pass over its headers."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from tarfile import TarInfo
from typing import BinaryIO, NamedTuple

from amc.utils.bounded_files import DamagedFileError

_BLOCK = 512
_MOST_HEADER_BYTES = 1 << 20
_MOST_MEMBERS = 5_000_000
_ORDINARY = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_LINKS = (tarfile.LNKTYPE, tarfile.SYMTYPE)
_LONG_NAMES = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_RECORDS = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
"""First bytes of gzip, bzip2, xz and Zstandard."""


class Member(NamedTuple):
    """An ordinary file inside a tar file: its name, where its content begins, and its length in bytes."""

    name: str
    offset: int
    size: int


def members(file: BinaryIO) -> Iterator[Member]:
    """Yields the ordinary files inside a tar file in their order; folders are passed over, and contents are not read.

    The standard library decodes each header. Its own iteration is not used: at a damaged header it stops as if the file
    ended there, and some of its releases never end on sizes that are made to mislead.

    Raises:
        OSError: If the file cannot be read.
        DamagedFileError: If it is damaged, cut off or compressed, or holds links or devices.
    """
    end = file.seek(0, os.SEEK_END)
    offset, count = 0, 0
    said: dict[str, str] = {}
    while (header := _header(file, offset, end)) is not None:
        size = 0 if header.type == tarfile.DIRTYPE else _size(header, said)
        offset += _BLOCK
        if size > end - offset:
            raise DamagedFileError(
                f"it is cut off: {header.name!r} should go on for {size:,} bytes from byte {offset:,}"
            )
        if header.type in (*_LONG_NAMES, *_RECORDS, tarfile.XGLTYPE):
            said |= _extended(header, file, size)
        else:
            name = said.get("path", header.name)
            _check_kind(header, name, said)
            if header.type != tarfile.DIRTYPE:
                yield Member(name, offset, size)
            said = {}
        count += 1
        if count > _MOST_MEMBERS:
            raise DamagedFileError(f"it may hold at most {_MOST_MEMBERS:,} members; make more, smaller shards")
        offset += -(-size // _BLOCK) * _BLOCK


def _header(file: BinaryIO, offset: int, end: int) -> TarInfo | None:
    """Reads the header at a place; None for the mark at the end."""
    file.seek(offset)
    block = file.read(_BLOCK)
    if offset == 0 and block.startswith(_COMPRESSED):
        raise DamagedFileError("it is compressed, and images are read from any place in it; decompress it")
    if len(block) < _BLOCK:
        raise DamagedFileError(f"it is cut off: it ends after {end:,} bytes, without the mark at the end of a tar file")
    if not any(block):
        return None
    try:
        return TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError, OverflowError) as error:
        raise DamagedFileError(f"there is no valid header at byte {offset:,} ({error})") from error


def _size(header: TarInfo, said: dict[str, str]) -> int:
    """Returns the bytes of content behind a header, which an extended header before it may give."""
    try:
        size = int(said["size"]) if "size" in said and header.type in _ORDINARY else header.size
    except ValueError as error:
        raise DamagedFileError(f"the size of {header.name!r} is no number") from error
    if size < 0:
        raise DamagedFileError(f"the size of {header.name!r} is {size}")
    return size


def _extended(header: TarInfo, file: BinaryIO, size: int) -> dict[str, str]:
    """Reads what a header without a member of its own says of the next member: its path and its size."""
    if header.type == tarfile.XGLTYPE:
        return {}
    if size > _MOST_HEADER_BYTES:
        raise DamagedFileError(f"an extended header may have {_MOST_HEADER_BYTES:,} bytes, and one has {size:,}")
    content = file.read(size)
    if header.type == tarfile.GNUTYPE_LONGLINK:
        return {}
    if header.type == tarfile.GNUTYPE_LONGNAME:
        return {"path": content.partition(b"\0")[0].decode("utf-8", "surrogateescape")}
    return dict(_records(content))


def _records(content: bytes) -> Iterator[tuple[str, str]]:
    """Yields the records `LENGTH KEY=VALUE` of an extended header of POSIX that matter here."""
    start = 0
    while start < len(content) and content[start]:
        digits = content[start : start + 8].partition(b" ")[0]
        length = int(digits) if digits.isdigit() else 0
        if not len(digits) + 2 < length <= len(content) - start:
            raise DamagedFileError("an extended header is damaged")
        key, equals, value = content[start + len(digits) + 1 : start + length - 1].partition(b"=")
        if not equals:
            raise DamagedFileError("an extended header is damaged")
        if key in (b"path", b"size") or key.startswith(b"GNU.sparse"):
            yield key.decode("ascii", "replace"), value.decode("utf-8", "surrogateescape")
        start += length


def _check_kind(header: TarInfo, name: str, said: dict[str, str]) -> None:
    """Accepts ordinary files and folders.

    Raises:
        DamagedFileError: For others.
    """
    if header.type in _LINKS:
        raise DamagedFileError(
            f"{name!r} is a link, which is not followed; pack the files themselves (tar --dereference "
            "--hard-dereference)"
        )
    sparse = any(key.startswith("GNU.sparse") for key in said)
    if sparse or header.type not in (*_ORDINARY, tarfile.DIRTYPE):
        raise DamagedFileError(f"{name!r} is no ordinary file; pack ordinary files alone")
