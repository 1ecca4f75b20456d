"""Stable-Baselines3's own learners: that they learn, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium.wrappers import TransformReward

from agents import create_agent
from amc.errors import ConfigurationError


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
        ("td3:warmup_episodes=0", "td3: warmup_episodes must be at least 1"),
        ("sac:learning_rate=0", "sac: learning_rate must be above 0"),
        ("ppo:rollout_episodes=1", "ppo: rollout_episodes must be at least 2"),
        ("ppo:noise=0.1", "'ppo' has no option 'noise'"),
    ],
)
def test_settings_out_of_range_are_refused(choice, message):
    with pytest.raises(ConfigurationError, match=message):
        create_agent(choice)
