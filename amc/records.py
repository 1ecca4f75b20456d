"""JSON records: an episode as a line, files that are replaced at once."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agents.protocol import EpisodeResult
from amc.structure import Allocation
from amc.training.score import Score

RUN = "run.json"
"""What a folder that the command line works in tells of its beginning."""
_SCORE_FIELDS = ("accuracy", "cross_entropy", "agreement", "images")


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Writes a JSON file at once, so that a kill leaves the old or the new one; NaN becomes null."""
    write_text(path, json.dumps(without_nan(record), indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Replaces a file at once."""
    partial = path.with_name(path.name + ".part")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def episode_record(episode: EpisodeResult) -> dict[str, Any]:
    """Returns an episode as `episodes.jsonl` has it."""
    return {
        "episode": episode.episode,
        "reward": episode.reward,
        **episode.score.as_dict(),
        "flops": episode.flops,
        "params": episode.params,
        "seconds": episode.seconds,
        **episode.allocation.as_dict(),
    }


def episode_from_record(record: Mapping[str, Any]) -> EpisodeResult:
    """Reads what `episode_record` wrote."""
    score: dict[str, Any] = {name: math.nan if record[name] is None else record[name] for name in _SCORE_FIELDS}
    return EpisodeResult(
        episode=int(record["episode"]),
        allocation=Allocation.from_dict(record),
        reward=float(record["reward"]),
        score=Score(**score),
        flops=int(record["flops"]),
        params=int(record["params"]),
        seconds=float(record["seconds"]),
    )


def episode_line(episode: EpisodeResult) -> str:
    """Returns an episode as a line of `episodes.jsonl`."""
    return json.dumps(without_nan(episode_record(episode))) + "\n"


def without_nan(value: Any) -> Any:
    """Replaces NaN, which JSON does not have, by None, all the way down."""
    if isinstance(value, Mapping):
        return {str(key): without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
