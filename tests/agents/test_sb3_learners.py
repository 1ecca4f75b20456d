"""Stable-Baselines3's own learners: that they learn, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium.wrappers import TransformReward

from agents import create_agent
from agents.agent_file import read_agent, write_agent
from agents.loading import load_agent
from amc.errors import CheckpointError, ConfigurationError

SHORT = {
    "td3": {"warmup_episodes": 2, "batch_size": 4},
    "sac": {"warmup_episodes": 2, "batch_size": 4},
    "ppo": {"rollout_episodes": 2},
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [("sac", {"warmup_episodes": 10}), ("ppo", {"learning_rate": 3e-3})],  # TD3 does so for some seeds only
)
def test_later_episodes_earn_more_than_the_first(toys, name, options):
    # Rewards are at most 1 in the real environment; a learner that does not normalise them saturates at 100.
    env = TransformReward(toys.wide_env(decisions=4), lambda reward: reward / 100)
    rewards = [e.reward for e in create_agent(name, **options).search(env, 120, seed=0).episodes]
    assert np.mean(rewards[-20:]) > np.mean(rewards[:10]) + 0.5 * np.std(rewards[:10])


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("td3:warmup_episodes=0", "td3: warmup_episodes must be at least 1, not 0"),
        ("sac:learning_rate=0", "sac: learning_rate must be above 0 and at most 1e.06, not 0"),
        ("ppo:rollout_episodes=1", "ppo: rollout_episodes must be at least 2, not 1"),
        ("ppo:noise=0.1", "'ppo' has no option 'noise'"),
    ],
)
def test_settings_out_of_range_are_refused(choice, message):
    with pytest.raises(ConfigurationError, match=message):
        create_agent(choice)


@pytest.fixture(scope="module", params=sorted(SHORT))
def learnt(request, toys, tmp_path_factory):
    agent = create_agent(request.param, **SHORT[request.param])
    agent.search(toys.small_env(), 5, seed=0)
    file = tmp_path_factory.mktemp("sb3") / "agent.safetensors"
    agent.save(file)
    return agent, file


def test_what_is_loaded_plays_as_it_did_and_learns_on(learnt, toys, tmp_path):
    agent, file = learnt
    loaded, env = load_agent(file), toys.small_env()
    assert (loaded.name, loaded.tasks) == (agent.name, agent.tasks)
    assert loaded.act(env).allocation == agent.act(env).allocation
    outcome = loaded.search(env, 4, seed=1)
    assert outcome.episodes[0].allocation == agent.act(env).allocation
    assert len(outcome.episodes) == 4
    before, after = agent.trained.tensors, loaded.trained.tensors
    assert any(not torch.equal(after[name], value) for name, value in before.items() if name.startswith("policy."))
    if "replay.rewards" in before:
        assert len(after["replay.rewards"]) == (5 + 3) * 3  # the first is played, and teaches nothing
    load_agent(file).save(tmp_path / "copy.safetensors")
    assert (tmp_path / "copy.safetensors").read_bytes() == file.read_bytes()


def test_it_is_used_on_another_network(learnt, toys):
    outcome = load_agent(learnt[1]).search(toys.wide_env(decisions=5), 3, seed=0)
    assert len(outcome.episodes) == 3


def test_nothing_can_be_kept_before_it_has_learnt(tmp_path):
    with pytest.raises(ConfigurationError, match="must learn before it is used"):
        create_agent("sac").save(tmp_path / "agent.safetensors")


@pytest.mark.parametrize("spoil", ["shape", "nan", "missing", "options", "many", "agent"])
def test_every_tensor_and_option_is_checked(learnt, toys, tmp_path, spoil):
    record, tensors = read_agent(learnt[1])
    name = next(name for name in tensors if name.startswith("policy.") and name.endswith("weight"))
    if spoil == "shape":
        tensors[name] = torch.zeros(3, 3)
    elif spoil == "nan":
        tensors[name] = torch.full_like(tensors[name], torch.nan)
    elif spoil == "missing":
        del tensors[name]
    elif spoil == "options":
        record["options"]["gamma"] = "much"
    elif spoil == "many":
        record["options"]["rollout_episodes" if record["agent"] == "ppo" else "batch_size"] = 10**9
    else:
        record["agent"] = "os"
    write_agent(tmp_path / "a.safetensors", record, tensors)  # with a new seal, as an attacker would
    with pytest.raises(CheckpointError, match="must"):
        load_agent(tmp_path / "a.safetensors").search(toys.small_env(), 2, seed=0)
