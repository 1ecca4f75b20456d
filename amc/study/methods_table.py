"""The table of methods: the results of their studies, one row per method, its own recovery beside the refit."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from amc.errors import RunFolderError
from amc.storage.names import CONFIG, STUDY
from amc.study.agents_study import read_cells
from amc.study.method_description import REFIT, describe_method
from amc.study.tables import markdown, share_or_count
from amc.utils.intervals import mean_with_interval
from amc.utils.plain_json import as_type
from amc.utils.plain_yaml import read_yaml

_SEED = re.compile(r"-seed\d+$")
_HEADING = (
    "method", "paper", "needs", "kept", "seeds", "time, s",
    "own recovery: before training", "after", "refit: before training", "after",
)  # fmt: skip


@dataclass
class _Row:
    """The cells of one method at one budget."""

    paper: str
    needs: str
    own: list[Mapping[str, Any]] = field(default_factory=list)
    refit: list[Mapping[str, Any]] = field(default_factory=list)


def methods_table(files: Iterable[Path]) -> str:
    """Summarises studies: one row per method and budget, in the order of the files.

    Args:
        files: Files `study.jsonl`, each beside the `config.yaml` of its study.

    Returns:
        A Markdown table: means over the seeds, with half the 95% interval.

    Raises:
        RunFolderError: If a file holds no study.
    """
    rows: dict[tuple[str, str, float], _Row] = {}
    for file in files:
        options = _options_of(file)
        pruning = options["pruning"]
        for record in read_cells(file):
            method = describe_method(options, record["agent"])
            key = (method.name, str(record["metric"]), float(record["budget"]))
            row = rows.setdefault(key, _Row(method.papers, method.needs))
            (row.refit if pruning["recovery"].startswith(REFIT) else row.own).append(record)
    body = [_cells(name, metric, budget, row) for (name, metric, budget), row in rows.items()]
    return markdown(_HEADING, body)


def records_by_method(files: Iterable[Path]) -> list[dict[str, Any]]:
    """Returns the cells of studies with the name of the method, that of its folder without the seed, as their agent.

    Raises:
        RunFolderError: If a file holds no study.
    """
    return [
        {**record, "agent": _SEED.sub("", file.resolve().parent.name)} for file in files for record in read_cells(file)
    ]


def study_files(folders: Iterable[Path]) -> list[Path]:
    """Returns the `study.jsonl` of folders, or below them, by name.

    Raises:
        RunFolderError: If a folder has none.
    """
    found: list[Path] = []
    for folder in folders:
        files = [folder] if folder.is_file() else sorted(folder.rglob(STUDY), key=str)
        if not files:
            raise RunFolderError(f"{folder} must be a {STUDY}, or a folder that holds some; run amc study first")
        found += files
    return found


class _Pruning(msgspec.Struct):
    """What is read of the rules of pruning."""

    family: Literal["filter", "weight"]
    criterion: str
    recovery: str


class _Training(msgspec.Struct):
    """What is read of the settings of a training."""

    penalties: list[str] = []
    freeze: str = "none"
    dropout: str = "same"


class _Rules(msgspec.Struct):
    """What is read of the rules of a study."""

    pruning: _Pruning
    schedule: str = "one_shot"
    train: _Training = msgspec.field(default_factory=_Training)
    finetune: _Training = msgspec.field(default_factory=_Training)


def _options_of(file: Path) -> Mapping[str, Any]:
    """Returns the rules of a study."""
    try:
        options = read_yaml(file.with_name(CONFIG))
        as_type(options, _Rules)
        return dict(options)
    except (OSError, ValueError, TypeError) as error:
        raise RunFolderError(
            f"{file} must lie beside the {CONFIG} of its study, which cannot be read: {error}"
        ) from error


def _cells(name: str, metric: str, budget: float, row: _Row) -> tuple[str, ...]:
    records = [*row.own, *row.refit]
    seconds = [record["prune_seconds"] for record in records if record.get("prune_seconds") is not None]
    seeds = max(len(row.own), len(row.refit))
    figures = [cell for found in (row.own, row.refit) for cell in _before_and_after(found)]
    kept = f"{share_or_count(budget)} {metric}"
    return (
        name,
        row.paper,
        row.needs,
        kept,
        str(seeds),
        f"{statistics.fmean(seconds):.0f}" if seconds else "-",
        *figures,
    )


def _before_and_after(found: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    tuned = [record["finetuned"] for record in found if record["finetuned"] is not None]
    return mean_with_interval([record["pruned"] for record in found], 2), mean_with_interval(tuned, 2)
