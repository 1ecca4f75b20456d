"""What every agent must do, learned or not."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
import torch

from agents import AGENTS, create_agent
from agents.heuristics.base import Planner
from amc.errors import ConfigurationError, UnknownNameError


def played(outcome):
    return [(e.episode, e.allocation, e.reward, e.costs) for e in outcome.episodes]


class AgentContract:
    """Inherit, and set the agent's name."""

    name = ""
    options: dict = {}  # noqa: RUF012 - read only
    episodes = 14
    stochastic = True

    def agent(self):
        return create_agent(self.name, **self.options)

    def expected(self):
        return 1 if isinstance(self.agent(), Planner) else self.episodes

    @pytest.mark.parametrize("mode", ["clip", "project"])
    def test_counts_episodes_and_respects_the_budget(self, toys, mode):
        env = toys.wide_env(mode, decisions=5)
        outcome = self.agent().search(env, self.episodes, seed=0)
        assert len(outcome.episodes) == env.episodes == self.expected()
        assert [e.episode for e in outcome.episodes] == list(range(self.expected()))
        for episode in outcome.episodes:
            widths = env.problem.widths(episode.allocation)
            assert env.problem.cost(widths) == episode.costs["flops"] <= env.problem.limit
            assert episode.reward == pytest.approx(env.reward_of(widths))
            assert episode.seconds >= 0

    def test_works_without_a_budget(self, toys):
        env = toys.ToyEnv(toys.toy_problem([1, 2], budget=None), [1.0, 1.0])
        assert len(self.agent().search(env, 6, seed=0).episodes) == min(6, self.expected())

    def test_one_decision_and_one_episode(self, toys):
        env = toys.ToyEnv(toys.toy_problem([1]), [1.0])
        assert len(self.agent().search(env, 1, seed=0).episodes) == 1

    def test_the_best_is_the_first_of_the_highest_rewards(self, toys):
        outcome = self.agent().search(toys.small_env(), self.episodes, seed=1)
        rewards = [e.reward for e in outcome.episodes]
        assert outcome.best is outcome.episodes[int(np.argmax(rewards))]

    def test_the_same_seed_plays_the_same_episodes(self, toys):
        agent = self.agent()
        first = agent.search(toys.small_env(), self.episodes, seed=3)
        assert played(first) == played(agent.search(toys.small_env(), self.episodes, seed=3))
        random.seed(5), np.random.seed(5), torch.manual_seed(5)
        assert played(first) == played(self.agent().search(toys.small_env(), self.episodes, seed=3))

    def test_seeds_differ_only_where_chance_is_used(self, toys):
        first, second = (played(self.agent().search(toys.wide_env(decisions=5), self.episodes, seed=s)) for s in (0, 1))
        assert (first != second) == self.stochastic

    def test_global_random_state_is_left_alone(self, toys):
        random.seed(1), np.random.seed(2), torch.manual_seed(3)
        before = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
        self.agent().search(toys.small_env(), self.episodes, seed=0)
        assert random.getstate() == before[0]
        assert np.array_equal(np.random.get_state()[1], before[1])
        assert torch.equal(torch.get_rng_state(), before[2])

    def test_each_episode_is_reported_once_in_order(self, toys):
        env, seen = toys.small_env(), []
        outcome = self.agent().search(
            env, self.episodes, seed=0, on_episode=lambda result: seen.append((result, env.episodes))
        )
        assert [result for result, _ in seen] == outcome.episodes
        assert [count for _, count in seen] == list(range(1, self.expected() + 1))

    def test_no_episodes_are_refused(self, toys):
        with pytest.raises(ConfigurationError, match="at least 1 episode, not 0"):
            self.agent().search(toys.small_env(), 0, seed=0)

    def test_it_is_named_as_registered(self):
        assert self.agent().name == self.name


class TestRandom(AgentContract):
    name = "random"


class TestCem(AgentContract):
    name = "cem"
    options = {"population": 4}  # noqa: RUF012


class TestCmaEs(AgentContract):
    name = "cmaes"


class TestTpe(AgentContract):
    name = "tpe"
    options = {"startup_trials": 4}  # noqa: RUF012


class TestSpdy(AgentContract):
    name = "spdy"


class TestGreedy(AgentContract):
    name = "greedy"
    stochastic = False


class TestSensitivity(AgentContract):
    name = "sensitivity"
    stochastic = False
    episodes = 30  # it scores the layers alone first, and there are 24


class TestPolicyFile(AgentContract):
    name = "policy"
    stochastic = False

    @pytest.fixture(autouse=True)
    def file(self, tmp_path):
        record = {"kind": "filter", "widths": {"layer0": 5}}
        (tmp_path / "policy.json").write_text(json.dumps(record))
        self.options = {"file": str(tmp_path / "policy.json")}


class TestDDPG(AgentContract):
    name = "ddpg"
    options = {"hidden": (16, 16), "ensemble_hidden": 8}  # noqa: RUF012
    episodes = 8


class TestPaperDDPG(AgentContract):
    name = "ddpg"
    options = {"preset": "paper", "warmup_episodes": 3, "hidden": (16, 16)}  # noqa: RUF012
    episodes = 8


class TestTd3(AgentContract):
    name = "td3"
    options = {"warmup_episodes": 4}  # noqa: RUF012
    episodes = 8


class TestSac(AgentContract):
    name = "sac"
    options = {"warmup_episodes": 4}  # noqa: RUF012
    episodes = 8


class TestPpo(AgentContract):
    name = "ppo"
    options = {"rollout_episodes": 3}  # noqa: RUF012
    episodes = 8


# What is registered and has no class of its own above is a rule, without options and without chance.
for _name in sorted(set(AGENTS.names()) - {contract.name for contract in AgentContract.__subclasses__()}):
    _class = f"Test{_name.title().replace('_', '')}"
    globals()[_class] = type(_class, (AgentContract,), {"name": _name, "stochastic": False})


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(UnknownNameError, match="unknown agent 'unifrom'; did you mean 'uniform'"):
        create_agent("unifrom")


def test_unknown_options_suggest_the_nearest():
    with pytest.raises(ConfigurationError, match="'ddpg' has no option 'actr_lr'; did you mean 'actor_lr'"):
        create_agent("ddpg", actr_lr=1)


def test_an_environment_without_a_problem_is_refused(toys):
    env = toys.small_env()
    del env.problem
    with pytest.raises(ConfigurationError, match="needs an environment with an attribute 'problem'"):
        create_agent("uniform").search(env, 1, seed=0)
