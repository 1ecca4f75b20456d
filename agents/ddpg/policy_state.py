"""A policy that was trained over several tasks: one actor, and a critic and the episodes of each task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from agents.agent_file import described, read_agent, write_agent
from agents.ddpg.config import DDPGConfig
from agents.ddpg.state import TrainedState, config_of, part_of
from agents.learnt_task import LearntTask, best_for
from amc.errors import CheckpointError
from amc.utils.conversion import convert

POLICY_FORMAT = "amc-policy-1"
_OWN = ("episode-critic", "replay.")
"""Prefix of the names of tensors that belong to a single task."""


@dataclass(frozen=True)
class PolicyState:
    """Everything that a training over several tasks has learnt.

    Attributes:
        config: The options of the agent.
        parts: By the name of each task, the state learnt on it; all have the same actor.
        episodes: By the same names, how many episodes were played.
        seed: Seed of the training.
    """

    config: DDPGConfig
    parts: Mapping[str, TrainedState]
    episodes: Mapping[str, int]
    seed: int

    @property
    def tasks(self) -> tuple[LearntTask, ...]:
        """What it learnt."""
        return tuple(part.task for part in self.parts.values())

    def for_task(self, task: LearntTask) -> TrainedState:
        """Returns what of it a search in a task starts from: the part that has most in common with it."""
        known = best_for(self.tasks, task)
        return next(part for part in self.parts.values() if part.task == known)

    def save(self, path: str | Path) -> None:
        """Writes one safetensors file."""
        tasks: list[dict[str, Any]] = []
        tensors: dict[str, torch.Tensor] = {}
        for index, (name, part) in enumerate(self.parts.items()):
            own = {f"{index}/{key}": value for key, value in part.tensors.items() if key.startswith(_OWN)}
            shared = {key: value for key, value in part.tensors.items() if not key.startswith(_OWN)}
            tensors |= own if index else {**shared, **own}
            figures = {"updates": part.updates, "baseline": part.baseline, "episodes": self.episodes[name]}
            tasks.append({"name": name, "task": asdict(part.task), **figures})
        record = {"format": POLICY_FORMAT, "config": asdict(self.config), "seed": self.seed, "tasks": tasks}
        write_agent(path, record, tensors)

    @staticmethod
    def load(path: str | Path) -> PolicyState:
        """Reads what `save` wrote.

        Raises:
            CheckpointError: If the file cannot be read, or holds something else.
        """
        record, tensors = read_agent(path)
        if record["format"] != POLICY_FORMAT:
            raise CheckpointError(f"{str(path)!r} must be a trained policy of format {POLICY_FORMAT!r}")
        with described(path, "amc train"):
            return _state(record, tensors)


def _state(record: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> PolicyState:
    """Makes a state of a header and of tensors; raises what `part_of` raises."""
    config = config_of(record)
    shared = {name: value for name, value in tensors.items() if "/" not in name}
    parts: dict[str, TrainedState] = {}
    episodes: dict[str, int] = {}
    for index, task in enumerate(record["tasks"]):
        prefix, name = f"{index}/", str(task["name"])
        own = {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
        parts[name] = part_of(task, config, {**shared, **own})
        episodes[name] = convert(int, task["episodes"], "episodes")
        if episodes[name] < len(own["replay.rewards"]) / len(parts[name].task.decisions):
            raise ValueError("episodes must be as many as the replay holds")
    if not parts:
        raise ValueError("a policy must have learnt some task")
    first = next(iter(parts.values())).task
    if any((part.task.kind, part.task.features) != (first.kind, first.features) for part in parts.values()):
        raise ValueError("all tasks must be of one kind of pruning and one state")
    return PolicyState(config, parts, episodes, convert(int, record["seed"], "seed"))
