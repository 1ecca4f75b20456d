"""Every agent that searches starts from the same allocations, unless it is asked not to."""

import numpy as np
import pytest

from agents import create_agent
from agents.guides import PLAYED_FIRST
from agents.heuristics.uniform import Uniform
from amc.errors import ConfigurationError, UnknownNameError

LEARNERS = ("cem", "cmaes", "tpe")


def first_played(env, agent, episodes=4):
    return [result.allocation.key() for result in create_agent(agent).search(env, episodes, seed=0).episodes]


@pytest.mark.parametrize("agent", LEARNERS)
def test_rivals_start_where_ddpg_starts(toys, agent):
    count = len(PLAYED_FIRST["filter"])
    assert first_played(toys.wide_env("project"), agent, count) == first_played(toys.wide_env("project"), "ddpg", count)


@pytest.mark.parametrize("agent", [*LEARNERS, "random"])
def test_named_heuristics_are_played_first(toys, agent):
    env = toys.wide_env("project")
    problem = env.unwrapped.problem
    played = first_played(env, f"{agent}:warm_start=[uniform]", 2)
    assert played[0] == problem.allocation(Uniform().widths(problem)).key()


@pytest.mark.parametrize("agent", LEARNERS)
def test_no_start_is_the_strategy_alone(toys, agent):
    env = toys.wide_env("project")
    assert first_played(env, f"{agent}:warm_start=[]") != first_played(toys.wide_env("project"), agent)


def test_random_search_starts_from_nothing_by_default(toys):
    env = toys.wide_env("project")
    assert first_played(env, "random") == first_played(toys.wide_env("project"), "random:warm_start=[]")


@pytest.mark.parametrize("agent", ["cem", "cmaes"])
def test_the_best_start_is_the_mean(agent):
    strategy = create_agent(agent, sigma=1e-6, **({"min_sigma": 0.0} if agent == "cem" else {})).strategy(3, 8, 0)
    strategy.begin([(np.array([0.1, 0.2, 0.3]), 0.5), (np.array([0.7, 0.6, 0.5]), 0.9), (np.zeros(3), 0.9)])
    assert strategy.ask() == pytest.approx([0.7, 0.6, 0.5], abs=1e-3)


def test_starts_are_trials_of_the_estimator():
    strategy = create_agent("tpe").strategy(2, 8, 0)
    strategy.begin([(np.array([0.1, 0.2]), 0.5), (np.array([0.3, 0.4]), 0.7)])
    assert strategy._study.best_params == {"ratio_0": 0.3, "ratio_1": 0.4}
    assert len(strategy._study.trials) == 2


@pytest.mark.parametrize("agent", [*LEARNERS, "random"])
def test_what_is_no_heuristic_is_refused(agent):
    with pytest.raises(ConfigurationError, match=f"{agent}: warm_start takes heuristics such as 'uniform', not 'ddpg'"):
        create_agent(f"{agent}:warm_start=[ddpg]")
    with pytest.raises(UnknownNameError, match="did you mean 'uniform'"):
        create_agent(f"{agent}:warm_start=[uniforn]")
