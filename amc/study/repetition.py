"""How to repeat a study: the command, and what it was played on."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from amc.report.page import Section
from amc.storage.names import CONFIG
from amc.study.environments import played_on
from amc.study.tables import Records
from amc.utils.json_lines import distinct_values


def repetition(folder: Path, records: Records, rules: str) -> Section:
    """Says how to repeat a study.

    Args:
        folder: Its folder.
        records: Its cells.
        rules: What its `config.yaml` holds; empty if it cannot be read.
    """
    words = ["The folder has every rule in config.yaml; the figures come from study.jsonl.", *played_on(folder)]
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
