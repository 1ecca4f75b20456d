"""Comparison with other agents: same budget, evaluator, data, reconstruction, fine-tuning and seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec

from agents import create_agent
from amc.errors import ConfigurationError, RunFolderError
from amc.pipeline.deliver import Workshop
from amc.pipeline.recalled import recalled
from amc.pipeline.recorder import Recorder
from amc.pipeline.search import SearchConfig, search_policy
from amc.problem import PruningProblem
from amc.storage.policy import AllocationRecord
from amc.storage.summary import Epoch
from amc.structure import Allocation


def check_baselines(names: Sequence[str]) -> None:
    """Checks the names of the agents to compare with.

    Raises:
        ConfigurationError: If it is one text in place of a list, or an option of one cannot be used.
        UnknownNameError: If one does not exist.
    """
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise ConfigurationError(
            f"the agents to compare with must be a list, such as ['uniform', 'erk'], not {names!r}"
        )
    for name in names:
        create_agent(name)


def check_choices(config: SearchConfig, names: Sequence[str] = ()) -> None:
    """Checks what a search and those that it is compared with choose, as far as that takes no network and no data.

    A `SearchConfig` has checked itself when it was made.

    Raises:
        UnknownNameError: If an agent does not exist.
        ConfigurationError: If an option of one, or the number of episodes, cannot be used.
    """
    check_baselines(names)
    for name in names:
        rival(config, name)


def rival(config: SearchConfig, name: str) -> SearchConfig:
    """Returns the search of another agent under the same rules, with as many candidates.

    A policy plays one episode more than `episodes`, and may play that alone; another agent then has one, too.

    Raises:
        UnknownNameError: If the agent does not exist.
        ConfigurationError: If an option of it, or the number of candidates, cannot be used.
    """
    return replace(config, agent=name, policy=None, episodes=config.candidates)


class _Found(msgspec.Struct):
    """What is remembered of an agent's search."""

    allocation: AllocationRecord
    reward: float | None
    episodes: int


class _Baseline(_Found):
    """What is remembered of an agent's finished network."""

    costs: dict[str, float]
    pruned: float | None
    finetuned: float | None
    notes: list[str] = []
    curve: list[Epoch] = []
    rounds: list[dict[str, Any]] = []


def compare(
    workshop: Workshop, problem: PruningProblem, names: Sequence[str], config: SearchConfig, recorder: Recorder
) -> dict[str, dict[str, Any]]:
    """Runs the same job with every named agent.

    Args:
        workshop: Scores and finishes the candidates.
        problem: The decisions, and the budget that all must meet.
        names: The agents, such as `"uniform"` or `"cem:population=8"`.
        config: The search that they are compared with; the number of candidates, reward and seed are the same.
        recorder: Remembers what is finished.

    Returns:
        The figures of each agent's network, by its name.
    """
    figures = {}
    for name in names:
        known = recalled(recorder, f"baseline {name}", _Baseline)
        if known is not None and not set(problem.dense_costs) <= set(known["costs"]):
            raise RunFolderError(
                f"the record 'baseline {name}' of the run is damaged: it must have the costs "
                f"{', '.join(problem.dense_costs)}; delete its progress.json to do the work again"
            )
        if known is None:
            known = _baseline(workshop, problem, rival(config, name), recorder)
            recorder.remember(f"baseline {name}", known)
        figures[name] = known
    return figures


def _baseline(workshop: Workshop, problem: PruningProblem, config: SearchConfig, recorder: Recorder) -> dict[str, Any]:
    """Searches with one agent, and finishes its network."""
    found = recalled(recorder, f"search of {config.agent}", _Found)
    if found is None:
        kept = recorder.of_compared(str(config.agent))
        outcome = search_policy(problem, workshop.evaluator, config, kept)
        best = outcome.best
        found = {"allocation": best.allocation.as_dict(), "reward": best.reward, "episodes": len(outcome.episodes)}
        recorder.remember(f"search of {config.agent}", found)  # the fine-tuning that follows takes long
    delivered = workshop.deliver(str(config.agent), Allocation.from_dict(found["allocation"]), recorder)
    return {**delivered.figures(), "reward": found["reward"], "episodes": found["episodes"]}
