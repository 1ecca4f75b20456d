from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from agents import create_agent
from agents.heuristics.erk import ErdosRenyiKernel
from agents.heuristics.greedy import knapsack
from amc.costs import Budget
from amc.errors import ConfigurationError


def keep_of(env, outcome):
    return np.array(outcome.best.allocation.key()) / env.sizes


@pytest.mark.parametrize("mode", ["clip", "project"])
@pytest.mark.parametrize("name", ["uniform", "erk", "shallow", "deep"])
def test_the_environment_plays_exactly_the_widths_of_the_rule(toys, name, mode):
    env, agent = toys.wide_env(mode), create_agent(name)
    assert agent.search(env, 5, seed=0).best.allocation.key() == agent.widths(env.problem)


def test_uniform_keeps_the_same_share_everywhere(toys):
    env = toys.ToyEnv(toys.toy_problem([1, 2, 3, 4], size=64), np.ones(4))
    assert keep_of(env, create_agent("uniform").search(env, 1, seed=0)) == pytest.approx(0.5, abs=1 / 64)


def test_shallow_rises_and_deep_falls(toys):
    env = toys.ToyEnv(toys.toy_problem([1] * 6, size=256), np.ones(6))
    shallow, deep = (keep_of(env, create_agent(name).search(env, 1, seed=0)) for name in ("shallow", "deep"))
    assert (np.diff(shallow) > 0).all()
    assert shallow == pytest.approx(deep[::-1], abs=2 / 256)
    assert shallow == pytest.approx(np.linspace(0.25, 0.75, 6), abs=2 / 256)  # ends 1 : 3 around a mean of 0.5


def test_erk_densities_are_the_sum_over_the_product_of_the_dimensions(toys):
    problem = toys.toy_problem([1, 1])
    assert ErdosRenyiKernel().density(problem.layers[0]) == pytest.approx((16 + 8 + 3 + 3) / (16 * 8 * 3 * 3))


def test_erk_keeps_ratios_in_the_proportion_of_the_densities(toys):
    env = toys.ToyEnv(toys.toy_problem([1, 1, 1], size=512), np.ones(3))
    keep = keep_of(env, create_agent("erk").search(env, 1, seed=0))
    densities = np.array([ErdosRenyiKernel().density(layer) for layer in env.problem.layers])
    assert keep / keep.max() == pytest.approx(densities / densities.max(), abs=0.01)


def test_a_profile_with_an_end_out_of_range_is_refused():
    with pytest.raises(ConfigurationError, match="ends of a profile must be in"):
        create_agent("deep", least=0.0)


def test_knapsack_buys_what_gains_most_for_its_cost(toys):
    env = toys.small_env()
    levels = np.sqrt(np.linspace(0, 1, 65))
    gains = env.sensitivity[:, None] * levels
    assert env.reward_of(knapsack(env.problem, gains, (4, 4, 4))) == pytest.approx(env.reward_of(env.best()))


def test_a_decision_that_costs_nothing_leaves_the_knapsack_of_the_others_as_it_is(toys):
    gains = np.array([[0.1], [0.5], [0.01]]) * np.sqrt(np.linspace(0, 1, 65))
    all_of_them, priced = toys.toy_problem([0, 10**6, 10**6], size=64), toys.toy_problem([10**6] * 2, size=64)
    assert knapsack(all_of_them, gains, (64, 32, 32)) == (64, *knapsack(priced, gains[1:], (32, 32)))


def test_knapsack_under_two_bounds_that_say_the_same_is_that_under_one(toys):
    gains = np.array([[0.5], [0.2], [0.01]]) * np.sqrt(np.linspace(0, 1, 65))
    one = toys.toy_problem([10**9, 2 * 10**9, 3 * 10**9], size=64)
    both = replace(one, budget=Budget(flops=0.5, params=0.5))
    assert knapsack(both, gains, (32, 32, 32)) == knapsack(one, gains, (32, 32, 32))


def test_greedy_finds_the_best_of_an_additive_objective(toys):
    env = toys.small_env()
    assert create_agent("greedy").search(env, 16, seed=0).best.reward == pytest.approx(env.reward_of(env.best()))


def test_greedy_plays_a_knapsack_last_even_if_the_round_is_cut_short(toys):
    env = toys.wide_env()
    outcome = create_agent("greedy").search(env, 20, seed=0)
    assert outcome.episodes[-1].reward > outcome.episodes[0].reward


@pytest.mark.parametrize("factors", [(), (1.0,), (-0.5,)])
def test_greedy_refuses_factors_that_measure_nothing(factors):
    with pytest.raises(ConfigurationError, match="factors must be positive and different from 1"):
        create_agent("greedy", factors=factors)
