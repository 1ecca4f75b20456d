"""Options of agents are checked before anything takes time, whoever gives them."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from agents import create_agent
from agents.ddpg import DDPGConfig
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
    ],
)
def test_values_of_the_wrong_type_are_refused(name, options, message):
    with pytest.raises(ConfigurationError, match=message.replace("[", r"\[")):
        create_agent(name, **options)


def test_whole_numbers_do_for_numbers_and_lists_for_tuples():
    config = create_agent("ddpg", sigma=1, hidden=[30, 20], warm_start=["erk"]).config
    assert (config.sigma, config.hidden, config.warm_start) == (1.0, (30, 20), ("erk",))


def test_choices_suggest_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'step'"):
        create_agent("ddpg", critic="stp")


def test_numbers_that_are_none_are_refused_in_python_too():
    with pytest.raises(ConfigurationError, match="sigma must be positive, not nan"):
        DDPGConfig(sigma=float("nan"))


@pytest.mark.parametrize("name", ["uniform", "random", "ddpg"])
def test_an_environment_whose_actions_are_no_pruning_ratios_is_refused(toys, name):
    wrapped = gymnasium.wrappers.RescaleAction(toys.small_env(), np.float32(-1), np.float32(1))
    with pytest.raises(ConfigurationError, match="act in pruning ratios"):
        create_agent(name).search(wrapped, 2, seed=0)
