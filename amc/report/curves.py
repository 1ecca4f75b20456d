"""Curves that a report draws: nice to have, never needed to continue a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from amc.utils.durable_files import open_no_link
from amc.utils.json_lines import line_of


class Curves:
    """A file that grows by a record at a time; what a kill cuts off is lost, and nothing depends on it."""

    def __init__(self, path: Path) -> None:
        """Takes the file, whose folder may come later."""
        self._path = path
        self._is_open = False

    def append(self, record: Mapping[str, Any]) -> None:
        """Appends a record; the first of a start begins a line of its own, as an earlier one may have been cut off."""
        line = line_of(record)
        if not self._is_open and self._path.is_file() and self._path.stat().st_size:
            line = f"\n{line}"
        self._path.parent.mkdir(exist_ok=True)
        with open(self._path, "a", encoding="utf-8", opener=open_no_link) as file:
            file.write(line)
        self._is_open = True
