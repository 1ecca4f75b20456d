"""What the card of an agent says after a search."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from agents import EpisodeResult
from agents.learning import LearningAgent
from agents.learnt_task import LearntTask
from amc.errors import CheckpointError
from amc.problem import PruningProblem
from amc.storage.agent_card import AgentCard, CurvePoint, Task, read_card
from amc.storage.names import AGENT_CARD
from amc.utils.versions import versions


def card_beside(file: Path, agent: LearningAgent) -> AgentCard | None:
    """Reads the card that lies beside the file of an agent; None if there is none.

    Args:
        file: The file.
        agent: What it holds.

    Raises:
        CheckpointError: If the card is damaged, or describes another agent.
    """
    place = file.with_name(AGENT_CARD)
    card = read_card(place)
    if card is None:
        return None
    learnt = agent.tasks[0]
    for noun, said, known in (
        ("another agent", [card.agent.partition(":")[0]], [agent.name]),  # it may have options
        ("another kind of pruning", [card.kind], [learnt.kind]),
        ("other features", card.features, learnt.features),
        ("other rewards", _rewards(card.tasks), _rewards(agent.tasks)),
    ):
        if said and list(said) != list(known):
            raise CheckpointError(
                f"{place} must describe {file.name} beside it, but names {noun}: {', '.join(said)} in place of "
                f"{', '.join(known)}; delete it to use the agent alone"
            )
    return card


def _rewards(tasks: Iterable[Task | LearntTask]) -> list[str]:
    return sorted({task.reward for task in tasks})


def search_card(
    agent: LearningAgent, problem: PruningProblem, network: str, episodes: Sequence[EpisodeResult], seed: int
) -> AgentCard:
    """Describes an agent after a search.

    Args:
        agent: The agent.
        problem: What was searched.
        network: Name of the network.
        episodes: All episodes.
        seed: Seed of the search.
    """
    learnt = agent.tasks[0]
    rewards = [episode.reward for episode in episodes]
    return AgentCard(
        agent=agent.name,
        kind="weight" if problem.kind == "weight" else "filter",
        features=list(learnt.features),
        feature_count=len(learnt.features),
        tasks=[task_record(problem, learnt.reward, network, len(episodes), max(rewards))],
        episodes=len(episodes),
        versions=versions(),
        curve=[CurvePoint(index + 1, {"reward": reward}) for index, reward in enumerate(rewards)],
        seed=seed,
    )


def task_record(problem: PruningProblem, reward: str, network: str, episodes: int, best_reward: float | None) -> Task:
    """Describes a task of an agent."""
    limit = problem.limit
    return Task(
        network=network,
        metric=problem.metric,
        limit=limit,
        share=None if limit is None else limit / problem.cost_model.dense,
        reward=reward,
        decisions=len(problem.decisions),
        episodes=episodes,
        best_reward=best_reward,
    )
