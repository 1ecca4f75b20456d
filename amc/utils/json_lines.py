"""Files of JSON records, one per line, each with a checksum: damage is found and reported, and a copy is kept."""

from __future__ import annotations

import json
import re
import warnings
import zlib
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from amc.errors import RunFolderError
from amc.utils.bounded_files import MEBIBYTE, read_bytes
from amc.utils.durable_files import Appender, free_name, replacing, write_text
from amc.utils.json_files import without_nan
from amc.utils.plain_json import as_type, parse_json

_SEAL = re.compile(r', "crc32": "([0-9a-f]{8})"\}$')
_MOST_BYTES = 128 * MEBIBYTE
_MOST_LINES = 1_000_000
DAMAGED = ".damaged"
"""Ends the name of the copy of a damaged file."""


@dataclass(frozen=True)
class Reading:
    """The contents of a file of records.

    Attributes:
        records: The whole ones, in their order.
        lines: Number of lines, not counting one that was cut off.
        damaged: Numbers of the damaged lines, from 1.
        is_torn: Whether the last line was cut off, as a kill leaves it.
        is_sealed: Whether the lines carry checksums; those of earlier versions do not.
    """

    records: list[dict[str, Any]] = field(default_factory=list)
    lines: int = 0
    damaged: tuple[int, ...] = ()
    is_torn: bool = False
    is_sealed: bool = True


def line_of(record: Mapping[str, Any]) -> str:
    """Returns a record as a line with its checksum (CRC-32 of the line without it); NaN becomes null."""
    text = json.dumps(without_nan(record))
    return f'{text[:-1]}, "crc32": "{_checksum(text)}"}}\n'


def read_lines(path: Path, most: int = _MOST_LINES) -> Reading:
    """Reads a file of records without changing it.

    Lines of earlier versions have no checksums; where one line has, all must.

    Args:
        path: The file.
        most: Lines that it may have.

    Raises:
        RunFolderError: If not a single line is a record: then it is some other file. Or if it has more lines.
        OSError: If the file cannot be read.
    """
    content = _content(path, most)
    *lines, rest = content.split(b"\n")
    texts = [line.decode("utf-8", errors="replace") for line in lines]
    is_sealed = any(_SEAL.search(text) for text in texts) or not texts
    found = [_opened(text, is_sealed) for text in texts]
    records = [record for record in found if record is not None]
    if not records and (lines or rest.strip(b"\0")[:1] not in (b"", b"{")):
        raise RunFolderError(f"{path} must hold one JSON record per line, and holds none; repair or move it away")
    damaged = tuple(number for number, record in enumerate(found, start=1) if record is None)
    return Reading(records, len(lines), damaged, bool(rest), is_sealed)


def _content(path: Path, most: int) -> bytes:
    """Reads a whole file; one that does not exist counts as empty."""
    try:
        content = read_bytes(path, _MOST_BYTES)
    except FileNotFoundError:
        return b""
    except ValueError as error:
        raise RunFolderError(f"{error}; repair or move it away") from error
    if content.count(b"\n") > most:
        raise RunFolderError(f"{path} must have at most {most:,} lines, and has more; repair or move it away")
    return content


def mend(path: Path, reading: Reading, records: Sequence[Mapping[str, Any]], remedy: str) -> None:
    """Replaces a file by its good records if it holds anything else; keeps a copy of a damaged file.

    Args:
        path: The file.
        reading: What it held.
        records: The records to keep; fewer than were read if some occurred twice.
        remedy: What becomes of the rest, as in "the others are measured again"; said in a warning.
    """
    dropped = len(reading.records) - len(records)
    if reading.damaged or dropped:
        copy = free_name(path.with_name(path.name + DAMAGED))
        with replacing(copy) as partial:
            partial.write_bytes(path.read_bytes())
        lost = [f"line {number} is damaged" for number in reading.damaged[:3]]
        lost += [f"{len(reading.damaged) - 3} more are"] if len(reading.damaged) > 3 else []
        lost += [f"{dropped} {'stands' if dropped == 1 else 'stand'} twice"] if dropped else []
        warnings.warn(
            f"{path} was damaged: {len(records)} of {reading.lines} lines are kept ({', '.join(lost)}); {remedy}; "
            f"the file as it was is {copy.name}",
            RuntimeWarning,
            stacklevel=2,
        )
    if reading.damaged or dropped or reading.is_torn or not reading.is_sealed:
        write_text(path, "".join(map(line_of, records)))


def distinct_values(records: Iterable[Mapping[str, Any]], name: str) -> list[Any]:
    """Returns the values that records have under a name, each once, in the order in which they come."""
    return list(dict.fromkeys(record[name] for record in records))


def distinct(records: Iterable[dict[str, Any]], identity: Callable[[dict[str, Any]], Hashable]) -> list[dict[str, Any]]:
    """Returns the first record of each identity: a repeated line is not a second measurement."""
    first: dict[Hashable, dict[str, Any]] = {}
    for record in records:
        first.setdefault(identity(record), record)
    return list(first.values())


class Lines:
    """A file of records that grows by one at a time and survives a kill, a power cut and damage."""

    def __init__(self, path: Path, identity: Sequence[str] = (), kind: type | None = None) -> None:
        """Reads the existing records, and repairs the file if need be.

        Args:
            path: The file.
            identity: Fields of a record that tell it from the others; needed to find one.
            kind: The type of the records, see `as_type`; objects of any kind if None.

        Raises:
            RunFolderError: If the file cannot be read, or is not what was written.
        """
        self._path, self._identity = path, identity
        try:
            reading = read_lines(path)
            for record in reading.records if kind is not None else ():
                as_type(record, cast(type, kind))
        except (OSError, ValueError) as error:
            raise RunFolderError(f"{path} must hold what was written there: {error}; repair or move it away") from error
        self.records = reading.records if not identity else distinct(reading.records, self._key)
        mend(path, reading, self.records, "the others are measured again")
        self._appender = Appender(path)

    def _key(self, record: Mapping[str, Any]) -> str:
        return json.dumps([record.get(name) for name in self._identity], sort_keys=True)

    def find(self, values: Iterable[Any]) -> dict[str, Any] | None:
        """Returns the record with these values in its identifying fields."""
        wanted = list(values)
        return next((found for found in self.records if [found.get(name) for name in self._identity] == wanted), None)

    def replace(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
        """Replaces an existing record without losing any on the way; returns it as stored."""
        kept: dict[str, Any] = without_nan(new)
        self.records[self.records.index(dict(old))] = kept
        write_text(self._path, "".join(map(line_of, self.records)))
        return kept

    def arrange(self, order: Iterable[Iterable[Any]]) -> None:
        """Puts records in order, behind all others; the file is written only if that changes it.

        Args:
            order: The values of their identifying fields; those that no record has are passed over.
        """
        places = {json.dumps(list(values)): place for place, values in enumerate(order)}
        identities = [json.dumps([record.get(name) for name in self._identity]) for record in self.records]
        ranks = [places.get(identity, -1) for identity in identities]
        if ranks != sorted(ranks):
            self.records = [
                record for _, record in sorted(zip(ranks, self.records, strict=True), key=lambda pair: pair[0])
            ]
            write_text(self._path, "".join(map(line_of, self.records)))

    def add(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Appends a record; returns it as stored."""
        kept: dict[str, Any] = without_nan(record)
        self._appender.add(line_of(kept))
        self.records.append(kept)
        return kept


def _checksum(text: str) -> str:
    return f"{zlib.crc32(text.encode('utf-8')):08x}"


def _opened(text: str, is_sealed: bool) -> dict[str, Any] | None:
    """Returns the record of a line; None if the line is not as it was written."""
    seal = _SEAL.search(text)
    if seal is not None:
        text = text[: seal.start()] + "}"
    if is_sealed and (seal is None or _checksum(text) != seal[1]):
        return None
    try:
        record = parse_json(text)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
