"""What the card of an agent says after a search."""

from __future__ import annotations

from collections.abc import Sequence

from agents import EpisodeResult
from agents.learning import LearningAgent
from amc.problem import PruningProblem
from amc.storage.agent_card import AgentCard, CurvePoint, Task
from amc.utils.versions import versions


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
