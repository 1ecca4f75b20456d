"""Reading trained agents of every kind."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from agents.agent_file import read_record
from agents.learning import LearningAgent
from amc.errors import CheckpointError
from amc.utils.format_numbers import other_version
from amc.utils.registry import Registry

_NUMBER = re.compile("[0-9]{1,9}")

FORMATS: Registry[Callable[[str | Path], LearningAgent]] = Registry("format of an agent")
"""The reader of a file, by the format that its header names."""

FORMATS.register("amc-ddpg-3", "agents.ddpg.agent:load", "a search by ddpg")
FORMATS.register("amc-sb3-1", "agents.sb3.learners:load", "a search by td3, sac or ppo")
FORMATS.register("amc-policy-1", "agents.ddpg.agent:load", "a training over several tasks")


def load_agent(path: str | Path) -> LearningAgent:
    """Reads a trained agent; a search with it starts from what it has learnt.

    Raises:
        CheckpointError: If the file cannot be read, or is not an agent that this version knows.
    """
    name = read_record(path)["format"]
    if name not in FORMATS.names():
        for known in FORMATS.names():
            if (words := _other_version(name, known)) is not None:
                raise CheckpointError(f"{str(path)!r} {words}")
        raise CheckpointError(
            f"{str(path)!r} must be an agent of format {' or '.join(FORMATS.names())}, not {name!r}; train it again"
        )
    return FORMATS.get(name)(path)


def _other_version(name: str, known: str) -> str | None:
    """Says which version wrote a format, such as `amc-ddpg-4`; None if it is not a known one by another number."""
    (kind, _, number), (own, _, latest) = name.rpartition("-"), known.rpartition("-")
    if kind != own or not _NUMBER.fullmatch(number):
        return None
    return other_version(int(number), int(latest), older="train it again")
