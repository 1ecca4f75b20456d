"""An episode as a JSON record."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from agents.protocol import EpisodeResult
from amc.problem.score import Score
from amc.storage.policy import AllocationRecord
from amc.structure import Allocation
from amc.utils.json_lines import line_of
from amc.utils.plain_json import as_type

_Count = Annotated[int, msgspec.Meta(ge=0)]
_SCORE_FIELDS = ("accuracy", "cross_entropy", "agreement", "images")


class _Episode(AllocationRecord):
    """One line of episodes.jsonl."""

    episode: _Count
    reward: float
    accuracy: float | None
    cross_entropy: float | None
    agreement: float | None
    images: _Count
    costs: dict[str, float]
    seconds: float


def episode_record(episode: EpisodeResult) -> dict[str, Any]:
    """Returns an episode as `episodes.jsonl` has it."""
    return {
        "episode": episode.episode,
        "reward": episode.reward,
        **episode.score.as_dict(),
        "costs": dict(episode.costs),
        "seconds": episode.seconds,
        **episode.allocation.as_dict(),
    }


def episode_from_record(record: Mapping[str, Any]) -> EpisodeResult:
    """Reads what `episode_record` wrote.

    Raises:
        DamagedFileError: If a part is missing or of another type.
    """
    as_type(dict(record), _Episode)
    score: dict[str, Any] = {name: math.nan if record[name] is None else record[name] for name in _SCORE_FIELDS}
    return EpisodeResult(
        episode=int(record["episode"]),
        allocation=Allocation.from_dict(record),
        reward=float(record["reward"]),
        score=Score(**score),
        costs=dict(record["costs"]),
        seconds=float(record["seconds"]),
    )


def episode_line(episode: EpisodeResult) -> str:
    """Returns an episode as a line of `episodes.jsonl`, with its checksum."""
    return line_of(episode_record(episode))
