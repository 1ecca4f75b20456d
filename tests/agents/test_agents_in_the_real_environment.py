from __future__ import annotations

import json

import gymnasium
import numpy as np
import pytest

import envs  # noqa: F401 - registers the environments
from agents import AGENTS, create_agent
from agents.ddpg.algorithm import AllocationDDPG
from agents.ddpg.config import DDPGConfig
from agents.ddpg.exploration import Schedule
from amc.problem.score import Score


def options_of(name, folder):
    """A policy file is named; all other agents need no option."""
    if name == "ddpg":
        return {"hidden": (16, 16), "ensemble_hidden": 8}
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


@pytest.fixture
def real_env(toys, request):
    toy = toys.wide_env(decisions=4)

    class Judge(toys.ToyEvaluator):
        def score(self, allocation):
            return Score(accuracy=toy.reward_of(toy.problem.widths(allocation)), cross_entropy=1.0)

    return gymnasium.make(
        "AMC/FilterPruning-v0", problem=toy.problem, evaluator=Judge(toy), allocation_mode=request.param
    )


@pytest.mark.parametrize("real_env", ["clip", "project"], indirect=True)
def test_ddpg_knows_what_it_has_played(real_env):
    config = DDPGConfig(hidden=(32, 32))
    algorithm = AllocationDDPG(real_env, config, Schedule.of_search(config, 8, []), seed=0)
    algorithm.learn(4)
    played = (1.0 - algorithm.replay_buffer.actions[:4].reshape(-1).astype(float)) / 2.0
    assert not algorithm._is_new(0, 1.0 - played)
    other = np.roll(played, 1)
    assert algorithm._is_new(0, 1.0 - other)
    assert real_env.unwrapped.allocation_after(np.zeros(1, np.float32)) is None  # its own episode is where it was


@pytest.mark.heavy
@pytest.mark.parametrize("real_env", ["clip", "project"], indirect=True)
def test_ddpg_plays_few_allocations_twice_however_little_noise_is_left(real_env):
    agent = create_agent("ddpg", hidden=(32, 32), final_sigma=0.005, sigma=0.02)
    episodes = agent.search(real_env, 40, seed=0).episodes
    assert len({episode.allocation.key() for episode in episodes}) >= 32  # 27 where it does not look
