"""The card of a trained agent: what it was trained on and how well it did, for people and for `amc policy show`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from amc.errors import CheckpointError
from amc.utils.json_files import write_json
from amc.utils.plain_json import as_type, read_json

_Count = Annotated[int, msgspec.Meta(ge=0)]
_MOST_TASKS = 1000
"""Tasks of a card, and rewards at a point of its curve: a table shows them all."""


class Task(msgspec.Struct, frozen=True):
    """What the agent was trained on, or held out for its evaluation.

    Attributes:
        network: Name of the network.
        metric: Name of the cost that the budget bounds.
        limit: The largest cost within the budget; None without a budget.
        share: The same as a share of the dense network's.
        reward: Name of the reward.
        decisions: How many decisions an episode has.
        episodes: Episodes played; 0 where it was held out.
        best_reward: The highest reward of an episode; None where none was played.
    """

    network: str
    metric: str
    limit: int | None
    share: float | None
    reward: str
    decisions: _Count
    episodes: _Count
    best_reward: float | None = None


class CurvePoint(msgspec.Struct, frozen=True):
    """How far the agent had come.

    Attributes:
        episode: Episodes played until then.
        rewards: By the name of what was played, the reward.
    """

    episode: _Count
    rewards: Annotated[dict[str, float], msgspec.Meta(max_length=_MOST_TASKS)]


class AgentCard(msgspec.Struct, frozen=True):
    """What an agent.json holds.

    Attributes:
        agent: Name of the agent.
        kind: The kind of pruning.
        features: Names of the state's features.
        feature_count: How many these are.
        tasks: What it was trained on.
        episodes: Episodes played in all.
        versions: Of Python and the packages that it was trained with.
        curve: How far it had come, in order.
        held_out: What it was only evaluated on.
        seed: Seed of the training.
    """

    agent: str
    kind: Literal["filter", "weight"]
    features: list[str]
    feature_count: _Count
    tasks: Annotated[list[Task], msgspec.Meta(max_length=_MOST_TASKS)]
    episodes: _Count
    versions: dict[str, str]
    curve: list[CurvePoint]
    held_out: Annotated[list[Task], msgspec.Meta(max_length=_MOST_TASKS)] = []
    seed: _Count = 0
    format: Literal["amc-agent-card-1"] = "amc-agent-card-1"


def write_card(path: Path, card: AgentCard) -> None:
    """Writes a card; a kill leaves the old one or the new one."""
    record: dict[str, Any] = msgspec.to_builtins(card)
    write_json(path, record)


def read_card(path: Path) -> AgentCard | None:
    """Reads a card; None if there is none.

    Raises:
        CheckpointError: If it is damaged, or something else.
    """
    try:
        card = as_type(read_json(path), AgentCard)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} must be the card of an agent: {error}; delete it to use the agent alone") from (
            error
        )
    if card.feature_count != len(card.features):
        raise CheckpointError(f"{path} must name as many features as it counts; delete it to use the agent alone")
    return card
