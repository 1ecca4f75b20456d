"""Options of agents are checked before anything takes time, whoever gives them."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest

from agents import create_agent
from agents.ddpg import DDPGConfig
from agents.registry import AGENTS
from amc.errors import ConfigurationError, UnknownNameError


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ddpg", {"sigma": "abc"}, "ddpg: sigma must be a number, not 'abc'"),
        ("ddpg", {"sigma": float("nan")}, "ddpg: sigma must be a finite number, not nan"),
        ("ddpg", {"sigma_decay": "abc"}, "ddpg: sigma_decay must be a number or unset, not 'abc'"),
        ("ddpg", {"hidden": [300, 0.5]}, "each of ddpg: hidden must be a whole number, not 0.5"),
        ("ddpg", {"environments": True}, "ddpg: environments must be a whole number, not True"),
        ("cem", {"population": 8.5}, "cem: population must be a whole number, not 8.5"),
        ("cmaes", {"population": "many"}, "cmaes: population must be a whole number or unset, not 'many'"),
        ("tpe", {"multivariate": 1}, "tpe: multivariate must be true or false, not 1"),
        ("greedy", {"factors": "ab"}, "greedy: factors must be a list"),
        ("cem", {"name": 1}, "agent 'cem' has no option 'name'"),
        ("ddpg", {"elite_focus": 1e308}, "ddpg: elite_focus must be in [0, 1000], not 1e.308"),
        ("ddpg", {"preset": "paper", "scale": "log"}, "ddpg: scale=log needs critic=episode"),
        ("ddpg", {"pessimism": 1e40}, "ddpg: pessimism must be in [0, 1000], not 1e.40"),
        ("td3", {"learning_rate": 1e300}, "td3: learning_rate must be above 0 and at most 1e.06, not 1e.300"),
        ("ddpg", {"sigma": 1e6}, "ddpg: sigma must be at most 10, not 1000000.0"),
    ],
)
def test_values_of_the_wrong_type_are_refused(name, options, message):
    with pytest.raises(ConfigurationError, match=message.replace("[", r"\[")):
        create_agent(name, **options)


def test_whole_numbers_do_for_numbers_and_lists_for_tuples():
    config = create_agent("ddpg", sigma=1, hidden=[30, 20], warm_start=["erk"]).config
    assert (config.sigma, config.hidden, config.warm_start) == (1.0, (30, 20), ("erk",))


class Guessing:
    """An agent of the user's own, without types and with one that is not there at run time."""

    name = "guessing"

    def __init__(self, depth=3, extra: Any = None, words: str | tuple[str, ...] = "", pair: tuple = ()):
        self.options = (depth, extra, words, pair)

    def search(self, env, episodes, *, seed, on_episode=None): ...


class Untyped(Guessing):
    def __init__(self, depth: NotThere = 3):  # noqa: F821
        self.options = (depth,)


def test_agents_of_the_users_own_get_what_they_are_given(monkeypatch):
    monkeypatch.setattr(AGENTS, "_entries", dict(AGENTS._entries))
    AGENTS.register("guessing", Guessing)
    AGENTS.register("untyped", Untyped)
    agent = create_agent("guessing", depth=5, extra=[1], words="abc", pair=[1, "b"])
    assert agent.options == (5, [1], "abc", (1, "b"))
    assert create_agent("untyped", depth="five").options == ("five",)


def test_numbers_of_numpy_are_numbers():
    config = create_agent("ddpg", proposals=np.int64(32), sigma=np.float32(0.25)).config
    assert (config.proposals, config.sigma) == (32, 0.25)
    assert (type(config.proposals), type(config.sigma)) == (int, float)


def test_choices_suggest_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'step'"):
        create_agent("ddpg", critic="stp")


def test_numbers_that_are_none_are_refused_in_python_too():
    with pytest.raises(ConfigurationError, match="ddpg: sigma must be a finite number, not nan"):
        DDPGConfig(sigma=float("nan"))


@pytest.mark.parametrize("name", ["uniform", "random", "ddpg"])
def test_an_environment_whose_actions_are_no_pruning_ratios_is_refused(toys, name):
    wrapped = gymnasium.wrappers.RescaleAction(toys.small_env(), np.float32(-1), np.float32(1))
    with pytest.raises(ConfigurationError, match="act in pruning ratios"):
        create_agent(name).search(wrapped, 2, seed=0)
