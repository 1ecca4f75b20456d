"""DDPG over several environments at once, which share problem and evaluator."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from agents import create_agent
from agents.ddpg import DDPGConfig
from agents.ddpg.agent import DDPGAgent
from agents.ddpg.algorithm import AllocationDDPG
from agents.ddpg.exploration import Schedule
from amc.errors import ConfigurationError

SHORT = {"warmup_episodes": 4, "hidden": (16, 16), "gradient_steps": 2, "ensemble": 2, "ensemble_hidden": 8}


def played(outcome):
    return [(e.episode, e.allocation, e.reward) for e in outcome.episodes]


@pytest.mark.parametrize("mode", ["clip", "project"])
@pytest.mark.parametrize("environments", [1, 2, 5])
def test_it_plays_the_episodes_that_were_asked_for_within_the_budget(toys, mode, environments):
    env, seen = toys.wide_env(mode, decisions=4), []
    agent = create_agent("ddpg", environments=environments, **SHORT)
    outcome = agent.search(env, 20, seed=0, on_episode=seen.append)
    assert outcome.episodes == seen
    assert [e.episode for e in seen] == list(range(20))
    for episode in seen:
        widths = env.problem.widths(episode.allocation)
        assert env.problem.cost(widths) <= env.problem.limit
        assert episode.reward == pytest.approx(env.reward_of(widths))


def test_the_same_seed_plays_the_same_episodes(toys):
    agent = create_agent("ddpg", environments=3, **SHORT)
    first = played(agent.search(toys.wide_env(), 12, seed=1))
    assert first == played(agent.search(toys.wide_env(), 12, seed=1))
    assert first != played(agent.search(toys.wide_env(), 12, seed=2))


def test_the_guided_episodes_come_first_whatever_the_number_of_environments(toys):
    alone, together = (
        create_agent("ddpg", environments=count, **SHORT).search(toys.wide_env("project"), 8, seed=0).episodes
        for count in (1, 4)
    )
    assert [e.allocation for e in alone[:4]] == [e.allocation for e in together[:4]]


@pytest.mark.heavy
def test_it_learns_from_all_of_them(toys):
    env = toys.small_env()
    outcome = create_agent("ddpg", environments=4, hidden=(64, 64)).search(env, 40, seed=0)
    assert outcome.best.reward == pytest.approx(env.reward_of(env.best()))


@pytest.mark.parametrize("stored", ["applied", "chosen"])
def test_the_replay_holds_whole_episodes_one_after_the_other(toys, stored):
    env, decisions = toys.wide_env(decisions=4), 4
    config = DDPGConfig(environments=3, stored_action=stored, **SHORT)
    algorithm = AllocationDDPG(env, config, Schedule.of_search(config, 6, []), seed=0)
    algorithm.learn(6 * decisions)
    replay = algorithm.replay_buffer
    assert replay.size() == 6 * decisions
    for start in range(0, replay.size(), decisions):
        episode = slice(start, start + decisions)
        observed, following = replay.observations[episode, 0], replay.next_observations[episode, 0]
        np.testing.assert_array_equal(observed[1:], following[:-1])
        assert len(set(replay.rewards[episode, 0].tolist())) == 1
        assert replay.dones[episode, 0].tolist() == [0, 0, 0, 1]
        if stored == "applied":
            keep = (1 - replay.actions[episode, 0, 0]) / 2
            widths = [round(float(k) * d.size) for k, d in zip(keep, env.problem.decisions, strict=True)]
            assert env.reward_of(widths) == pytest.approx(float(replay.rewards[start, 0]), rel=1e-6)


def test_wrappers_are_kept_around_every_environment(toys):
    class Doubled(gymnasium.RewardWrapper):
        def reward(self, reward):
            return 2 * reward

    env = toys.wide_env(decisions=3)
    config = DDPGConfig(environments=2, **SHORT)
    algorithm = AllocationDDPG(Doubled(env), config, Schedule.of_search(config, 4, []), seed=0)
    algorithm.learn(4 * 3)
    rewards = algorithm.replay_buffer.rewards[: 4 * 3 : 3, 0]
    applied = (1 - algorithm.replay_buffer.actions[: 4 * 3, 0, 0].reshape(4, 3)) / 2
    sizes = np.array([decision.size for decision in env.problem.decisions])
    expected = [2 * env.reward_of([round(w) for w in row * sizes]) for row in applied.astype(float)]
    np.testing.assert_allclose(rewards, expected, rtol=1e-5)


def test_a_saved_agent_acts_alone(toys, tmp_path):
    agent, env = create_agent("ddpg", environments=4, **SHORT), toys.small_env()
    agent.search(env, 8, seed=0)
    agent.save(tmp_path / "agent.safetensors")
    loaded = DDPGAgent.load(tmp_path / "agent.safetensors")
    assert loaded.config.environments == 4
    assert loaded.act(env).allocation == agent.act(env).allocation


def test_episodes_that_do_not_divide_are_refused_with_the_next_number_that_does(toys):
    with pytest.raises(ConfigurationError, match=r"episodes \(10\) must be divisible by environments \(4\); use 12"):
        create_agent("ddpg", environments=4).search(toys.small_env(), 10, seed=0)


def test_no_environment_is_refused():
    with pytest.raises(ConfigurationError, match="environments must be positive, not 0"):
        create_agent("ddpg", environments=0)


def test_episodes_that_end_together_share_the_time(toys):
    episodes = create_agent("ddpg", environments=4, **SHORT).search(toys.wide_env(), 8, seed=0).episodes
    assert len({e.seconds for e in episodes[:4]}) == 1
    assert min(e.seconds for e in episodes) > 0


def test_wrappers_that_remember_do_so_for_each_environment(toys):
    def observations(count):
        env = gymnasium.wrappers.DelayObservation(toys.wide_env(decisions=4), delay=1)
        config = DDPGConfig(environments=count, **SHORT)
        algorithm = AllocationDDPG(env, config, Schedule.of_search(config, 4, []), seed=0)
        algorithm.learn(4 * 4)
        return algorithm.replay_buffer.observations[: 4 * 4, 0, 0].reshape(4, 4)  # the number of the layer

    np.testing.assert_array_equal(observations(2), observations(1))
