"""How to repeat a study: the command, and what it was begun on."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from amc.errors import ConfigurationError, RunFolderError
from amc.pipeline.environment import Environment
from amc.report.page import Section
from amc.runtime.device import resolve_device
from amc.storage.names import CONFIG, ENVIRONMENT, STUDY
from amc.study.tables import Records
from amc.utils.json_lines import distinct_values


def keep_environment(folder: Path, device: str) -> list[str]:
    """Writes the environment of a study that begins; later starts change nothing.

    Returns:
        How this environment differs from that of the beginning, which may change the last digits of scores.

    Raises:
        RunFolderError: If the file cannot be read or written.
    """
    here, file = Environment.here(resolve_device(device), torch.get_num_threads()), folder / ENVIRONMENT
    try:
        if file.exists():
            return Environment.read(folder).differences(here)
        if not (folder / STUDY).exists():  # it was not begun by an earlier version, elsewhere
            here.write(folder)
    except (OSError, ValueError, ConfigurationError) as error:
        raise RunFolderError(f"{file} must say what the study was begun on: {error}; remove it to continue") from error
    return []


def repetition(folder: Path, records: Records, rules: str) -> Section:
    """Says how to repeat a study.

    Args:
        folder: Its folder.
        records: Its cells.
        rules: What its `config.yaml` holds; empty if it cannot be read.
    """
    words = ["The folder has every rule in config.yaml; the figures come from study.jsonl.", *_begun_on(folder)]
    return Section(
        "How to repeat it",
        paragraphs=words,
        commands=[command_of(folder, records)] if rules else [],
        listing=rules,
        listing_title="The rules of the study (config.yaml)",
    )


def command_of(folder: Path, records: Records) -> str:
    """Returns the command that plays the cells of a study again, and those between them that are missing."""
    counts = sorted({record["episodes"] for record in records} - {1}) or [1]
    tuned = {record["budget"] for record in records if record.get("finetuned") is not None}
    options: dict[str, Sequence[Any]] = {
        "config": [folder / CONFIG],
        "out": ["ANOTHER_FOLDER"],
        "agents": distinct_values(records, "agent"),
        "metric": distinct_values(records, "metric"),
        "budgets": distinct_values(records, "budget"),
        "counts": counts,
        "seeds": sorted(distinct_values(records, "seed")),
        "finetuned": sorted(tuned, reverse=True),
        "latency": ["true"] if any(record.get("latency_ms") for record in records) else [],
    }
    given = [
        f"--{name} {' '.join(shlex.quote(str(value)) for value in values)}"
        for name, values in options.items()
        if values
    ]
    return f"amc study {' '.join(given)}"


def _begun_on(folder: Path) -> list[str]:
    """Describes the environment that a study was begun in; nothing if it is not known."""
    try:
        begun = Environment.read(folder)
    except (OSError, ValueError, ConfigurationError):
        return []
    versions = ", ".join(f"{name} {version}" for name, version in begun.versions.items())
    on = f", {begun.processor}" if begun.processor else ""
    return [f"Begun on: device {begun.device}{on}, threads {begun.threads}.", f"Versions: {versions}."]
