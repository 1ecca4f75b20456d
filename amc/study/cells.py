"""The cells of a study, and the file that keeps their figures."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amc.errors import RunFolderError
from amc.records import without_nan, write_text
from amc.study.variants import Variant


@dataclass(frozen=True)
class Cell:
    """One search.

    Attributes:
        variant: Who searches.
        budget: Share kept of the dense cost.
        episodes: Candidates that may be tried.
        seed: Seed of the agent. Data, tables and network are the same for all seeds.
    """

    variant: Variant
    budget: float
    episodes: int
    seed: int

    @property
    def key(self) -> tuple[str, float, int, int]:
        """What a cell is known by."""
        return self.variant.label, self.budget, self.episodes, self.seed


def plan(
    variants: Sequence[Variant], budgets: Sequence[float], episodes: Sequence[int], seeds: Sequence[int]
) -> list[Cell]:
    """Lists the cells of a study; agents that play one episode have one cell a budget."""
    cells = []
    for budget in budgets:
        for variant in variants:
            if variant.plays_once:
                cells.append(Cell(variant, budget, 1, 0))
            else:
                cells += [Cell(variant, budget, count, seed) for count in episodes for seed in seeds]
    return list({cell.key: cell for cell in cells}.values())


class Lines:
    """A JSON Lines file that grows by one record at a time and survives being cut off within one."""

    def __init__(self, path: Path, identity: Sequence[str]) -> None:
        """Reads what is there.

        Args:
            path: The file.
            identity: Fields of a record that tell it from the others.

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
            raise RunFolderError(f"{path} must hold one JSON record a line: {error}; give another --out") from error

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
