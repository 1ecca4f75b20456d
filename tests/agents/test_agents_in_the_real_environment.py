from __future__ import annotations

import gymnasium
import numpy as np
import pytest

import envs  # noqa: F401 - registers the environments
from agents import AGENTS, create_agent
from amc.problem.score import Score


@pytest.mark.parametrize("mode", ["clip", "project"])
@pytest.mark.parametrize("name", AGENTS.names())
def test_every_agent_plays_the_real_environment(toys, name, mode):
    toy = toys.wide_env(decisions=4)
    evaluated = []

    def evaluate(allocation):
        evaluated.append(allocation)
        return Score(accuracy=toy.reward_of(toy.problem.widths(allocation)), cross_entropy=1.0)

    env = gymnasium.make("AMC/FilterPruning-v0", problem=toy.problem, evaluator=evaluate, allocation_mode=mode)
    outcome = create_agent(name).search(env, 6, seed=0)
    assert [episode.allocation for episode in outcome.episodes] == evaluated
    assert outcome.best.reward == max(episode.reward for episode in outcome.episodes)
    assert all(
        np.isfinite(episode.reward) and episode.costs["flops"] <= toy.problem.limit for episode in outcome.episodes
    )
