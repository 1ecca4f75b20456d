from __future__ import annotations

import json

import gymnasium
import numpy as np
import pytest

import envs  # noqa: F401 - registers the environments
from agents import AGENTS, create_agent
from amc.problem.score import Score


def options_of(name, folder):
    """A policy file is named; all other agents need no option."""
    if name != "policy":
        return {}
    (folder / "policy.json").write_text(json.dumps({"kind": "filter", "widths": {"layer0": 5}}))
    return {"file": str(folder / "policy.json")}


@pytest.mark.parametrize("mode", ["clip", "project"])
@pytest.mark.parametrize("name", AGENTS.names())
def test_every_agent_plays_the_real_environment(toys, name, mode, tmp_path):
    toy = toys.wide_env(decisions=4)
    evaluated = []

    class Judge(toys.ToyEvaluator):
        def score(self, allocation):
            evaluated.append(allocation)
            return Score(accuracy=toy.reward_of(toy.problem.widths(allocation)), cross_entropy=1.0)

    env = gymnasium.make("AMC/FilterPruning-v0", problem=toy.problem, evaluator=Judge(toy), allocation_mode=mode)
    outcome = create_agent(name, **options_of(name, tmp_path)).search(env, 20, seed=0)
    played = [episode.allocation for episode in outcome.episodes]
    assert played == evaluated[-len(played) :]  # some score single layers before they play
    assert len(evaluated) <= 20
    assert outcome.best.reward == max(episode.reward for episode in outcome.episodes)
    assert all(
        np.isfinite(episode.reward) and episode.costs["flops"] <= toy.problem.limit for episode in outcome.episodes
    )
