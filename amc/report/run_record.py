"""What a report needs from a run's folder, read and checked."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec

from agents.protocol import EpisodeResult
from amc.errors import RunFolderError, cause_of
from amc.pipeline.episodes import episode_from_record
from amc.report.origin import Origin
from amc.report.without_figures import without_figures
from amc.storage.names import CONFIG, ENVIRONMENT, EPISODES, LEARNING, POLICY, SUMMARY, TENSORBOARD
from amc.storage.summary import MOST_EPOCHS, Epoch, Name, Summary, Text
from amc.utils.bounded_files import read_text
from amc.utils.json_lines import read_lines
from amc.utils.plain_json import as_type, read_json
from amc.utils.plain_yaml import MOST_BYTES

_MOST_EPISODES = 20_000
"""Candidates that a page can show."""


def _is_there(file: Path) -> bool:
    """Returns whether there is anything of that name, be it a pipe, which reading then refuses."""
    return os.path.lexists(file)


class Round(msgspec.Struct):
    """One round of a schedule."""

    budget: float
    search_pruned: float
    search_trained: float


class Baseline(msgspec.Struct):
    """The network of an agent that a run was compared with."""

    costs: dict[str, float]
    pruned: float | None = None
    finetuned: float | None = None
    allocation: dict[str, Any] = {}
    reward: float | None = None
    episodes: int | None = None
    notes: list[Text] = []
    curve: Annotated[list[Epoch], msgspec.Meta(max_length=MOST_EPOCHS)] = []


_Loss = Annotated[float, msgspec.Meta(ge=-1e12, le=1e12)]


class LearningRecord(msgspec.Struct):
    """What the agent had learnt at a candidate."""

    episode: Annotated[int, msgspec.Meta(ge=0, le=10**9)]
    actor_loss: _Loss | None = None
    critic_loss: _Loss | None = None
    seconds: _Loss | None = None
    scoring_seconds: _Loss | None = None
    ratios: dict[str, Annotated[float, msgspec.Meta(ge=0, le=1)]] = {}


class Policy(msgspec.Struct):
    """What is read from `policy.json`."""

    widths: dict[Name, int]
    pruning_ratios: dict[Name, float] = {}
    kind: str = "filter"


@dataclass(frozen=True)
class RunRecord:
    """A finished run, as read from its folder.

    Attributes:
        folder: The folder.
        summary: The figures.
        baselines: The networks of other agents, by who chose their allocation.
        rounds: Figures of each round of a schedule with several.
        policy: What every layer keeps; None if it is not in the folder.
        episodes: The candidates of the search.
        learning: What the agent had learnt at each of them; empty if unknown.
        command: The subcommand that made the folder; empty if unknown.
        config: The options, as YAML; empty if there are none.
        environment: The environment of the run; empty if unknown.
    """

    folder: Path
    summary: Summary
    baselines: Mapping[str, Baseline] = field(default_factory=dict)
    rounds: tuple[Round, ...] = ()
    policy: Policy | None = None
    episodes: tuple[EpisodeResult, ...] = ()
    learning: tuple[LearningRecord, ...] = ()
    command: str = ""
    config: str = ""
    environment: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sizes(self) -> dict[str, int]:
        """Units of every decision in the dense network, by name, in the order of execution."""
        if self.summary.layers:
            return {layer.name: layer.units for layer in self.summary.layers}
        if self.policy is None:
            return {}
        ratios = self.policy.pruning_ratios
        return {
            name: round(width / (1 - ratios[name]))
            for name, width in self.policy.widths.items()
            if 0 <= ratios.get(name, -1) < 1
        }


def read_run(folder: Path) -> RunRecord:
    """Reads a run's folder without changing it.

    Raises:
        RunFolderError: If it does not hold a finished run, or a file is damaged.
    """
    file = folder / SUMMARY
    if not _is_there(file):
        raise RunFolderError(without_figures(folder))
    try:
        summary = as_type(read_json(file), Summary)
        baselines = as_type(summary.baselines, dict[str, Baseline])
        rounds = as_type(summary.rounds, list[Round])
        policy = as_type(read_json(folder / POLICY), Policy) if _is_there(folder / POLICY) else None
        lines = read_lines(folder / EPISODES, _MOST_EPISODES).records if _is_there(folder / EPISODES) else []
        environment = read_json(folder / ENVIRONMENT) if _is_there(folder / ENVIRONMENT) else {}
        config = read_text(folder / CONFIG, MOST_BYTES) if _is_there(folder / CONFIG) else ""
        episodes = tuple(map(episode_from_record, lines))
        learning = as_type(read_lines(folder / TENSORBOARD / LEARNING, _MOST_EPISODES).records, list[LearningRecord])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunFolderError(f"{folder} must hold a complete run, but is damaged: {cause_of(error)}") from error
    origin = Origin.read(folder)
    return RunRecord(
        folder=folder,
        summary=summary,
        baselines=baselines,
        rounds=tuple(rounds),
        policy=policy,
        episodes=episodes,
        learning=tuple(learning),
        command="" if origin is None else origin.command,
        config=config,
        environment=environment if isinstance(environment, dict) else {},
    )
