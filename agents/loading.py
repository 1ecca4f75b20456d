"""Reading trained agents of every kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from agents.agent_file import read_record
from agents.learning import LearningAgent
from amc.errors import CheckpointError
from amc.utils.registry import Registry

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
        raise CheckpointError(
            f"{str(path)!r} must be an agent of format {' or '.join(FORMATS.names())}, not {name!r}; train it again"
        )
    return FORMATS.get(name)(path)
