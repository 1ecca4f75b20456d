"""JSON files that are replaced at once, and files of JSON records that grow by one line at a time."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from amc.errors import RunFolderError


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Writes a JSON file at once, so that a kill leaves the old or the new one; NaN becomes null."""
    write_text(path, json.dumps(without_nan(record), indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Replaces a file at once."""
    partial = path.with_name(path.name + ".part")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def without_nan(value: Any) -> Any:
    """Replaces NaN, which JSON does not have, by None, all the way down."""
    if isinstance(value, Mapping):
        return {str(key): without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Lines:
    """A JSON Lines file that grows by one record at a time and survives being cut off within one."""

    def __init__(self, path: Path, identity: Sequence[str] = ()) -> None:
        """Reads what is there.

        Args:
            path: The file.
            identity: Fields of a record that tell it from the others; needed to find one.

        Raises:
            RunFolderError: If the file is not what was written.
        """
        self._path, self._identity = path, identity
        self.records: list[dict[str, Any]] = []
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
        if lines and not lines[-1].endswith("\n"):
            lines.pop()
            path.write_text("".join(lines), encoding="utf-8")
        try:
            self.records = [json.loads(line) for line in lines]
        except ValueError as error:
            raise RunFolderError(f"{path} must hold one JSON record a line: {error}; put it right or aside") from error

    def find(self, values: Iterable[Any]) -> dict[str, Any] | None:
        """Returns the record with these values in its identifying fields."""
        wanted = list(values)
        return next((found for found in self.records if [found[name] for name in self._identity] == wanted), None)

    def replace(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
        """Puts a record in the place of one that is there, without losing any on the way; returns it as kept."""
        kept: dict[str, Any] = without_nan(new)
        self.records[self.records.index(dict(old))] = kept
        write_text(self._path, "".join(json.dumps(record) + "\n" for record in self.records))
        return kept

    def add(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Appends a record; returns it as kept."""
        kept: dict[str, Any] = without_nan(record)
        self.records.append(kept)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(kept) + "\n")
        return kept
