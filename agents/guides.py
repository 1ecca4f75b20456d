"""Where a search starts: the heuristics' own allocations, played first, the same for every agent that searches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from agents.episodes import ratios_of
from agents.protocol import problem_of
from amc.errors import ConfigurationError

if TYPE_CHECKING:
    from agents.heuristics.base import Planner
    from agents.protocol import AllocationEnv

PLAYED_FIRST = {
    "filter": ("uniform", "erk", "shallow", "deep"),
    "weight": ("uniform", "erk", "lamp", "global", "dp"),
}
"""The heuristics that a search starts from unless others are named, by the kind of pruning."""
START_FROM_HEURISTICS = ("ddpg", "cem", "cmaes", "tpe")
"""The agents that start from them; others, such as random search, only where they are named."""


def guides_of(env: AllocationEnv, names: Sequence[str] | None, who: str) -> list[NDArray[np.float64]]:
    """Returns the pruning ratios of the heuristics that are played first, shape `(decisions,)` each.

    Args:
        env: The environment.
        names: Which heuristics; None for those of `PLAYED_FIRST` that can be played.
        who: The agent, for messages.

    Raises:
        ConfigurationError: If one that was asked for looks at what the evaluator does not know; one of the defaults is
            left out then.
    """
    found = []
    for name in PLAYED_FIRST[problem_of(env).kind] if names is None else names:
        try:
            found.append(ratios_of(env, heuristic(name, who).plan(env, 1)))
        except ConfigurationError:
            if names is not None:
                raise
    return found


def heuristic(name: str, who: str) -> Planner:
    """Returns the heuristic of a name.

    Args:
        name: The name of an agent.
        who: The agent that starts from it, for messages.

    Raises:
        UnknownNameError: If there is no such agent.
        ConfigurationError: If an agent of that name is not a heuristic.
    """
    from agents.heuristics.base import Planner
    from agents.registry import AGENTS

    agent = AGENTS.get(name)()
    if not isinstance(agent, Planner) or agent.measures:
        raise ConfigurationError(f"{who}: warm_start takes heuristics such as 'uniform', not {name!r}")
    return agent
