"""Allocations of the pruning literature, against worked numbers, brute force and properties of their papers."""

from __future__ import annotations

import json
from itertools import product
from math import prod
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from agents import create_agent
from agents.heuristics.ranking import lamp_scores, ranked_widths
from agents.heuristics.sensitivity import tolerated_ratio
from amc.costs import Budget, PolynomialCost
from amc.errors import ConfigurationError
from amc.problem import Decision, PruningProblem
from amc.problem.least_error import cheapest, total_error
from amc.structure import CostTerm, Extent, LayerSpec

SHAPES = ((16, 3, 3, 3), (32, 16, 3, 3), (10, 32))


def weights_of(shapes, keep):
    """The problem of keeping a share of the weights of layers that have no biases."""
    layers = tuple(
        LayerSpec(f"l{i}", "conv", f"l{i}.weight", shape, shape[1], shape[0], (3, 3), (1, 1), (8, 8), 1, 0, 0, None, ())
        for i, shape in enumerate(shapes)
    )
    sizes = [prod(shape) for shape in shapes]
    terms = [CostTerm(1, (Extent(0, ((i, 1),)),)) for i in range(len(sizes))]
    costs = {metric: PolynomialCost(metric, terms, sizes) for metric in ("flops", "params")}
    decisions = tuple(Decision(layer.name, size) for layer, size in zip(layers, sizes, strict=True))
    return PruningProblem(decisions=decisions, costs=costs, layers=layers, budget=Budget(params=keep), kind="weight")


def env_of(problem, saliencies=None, errors=None):
    evaluator = SimpleNamespace(saliency=lambda criterion: saliencies, errors=lambda: errors)
    return SimpleNamespace(
        problem=problem,
        evaluator=evaluator,
        unwrapped=SimpleNamespace(problem=problem, evaluator=evaluator),
        action_space=SimpleNamespace(low=np.zeros(1), high=np.ones(1), shape=(1,)),
    )


@pytest.mark.parametrize(
    ("name", "densities"), [("erk", (0.5509, 0.1116, 1.0)), ("erdos_renyi", (0.658, 0.156, 0.218))]
)
def test_erdos_renyi_densities_are_the_capped_solution(name, densities):
    """A fifth of 432 + 4608 + 320 weights is 1072; with the kernel the last layer becomes dense, the rest is solved."""
    problem = weights_of(SHAPES, 0.2)
    widths = create_agent(name).plan(env_of(problem), 1)
    assert sum(widths) == problem.limit == 1072
    assert problem.keep_ratios(widths) == pytest.approx(densities, abs=2e-3)


def test_lamp_scores_by_hand():
    assert lamp_scores(np.array([1.0, 2.0, 3.0])) == pytest.approx([1 / 14, 4 / 13, 1.0])
    assert lamp_scores(np.array([3.0, 1.0, 2.0])) == pytest.approx([1.0, 1 / 14, 4 / 13])
    assert lamp_scores(np.array([0.1, 0.1])) == pytest.approx([0.5, 1.0])
    assert lamp_scores(np.zeros(3)) == pytest.approx(np.zeros(3))


@given(arrays(float, st.integers(1, 20), elements=st.floats(1e-3, 1e3)))
def test_lamp_scores_are_magnitudes_within_a_layer_and_free_of_its_scale(magnitudes):
    scores = lamp_scores(magnitudes)
    order = np.argsort(magnitudes, kind="stable")
    assert (np.diff(scores[order]) > 0).all()
    assert scores[order[-1]] == 1.0
    assert lamp_scores(7.0 * magnitudes) == pytest.approx(scores)


def test_lamp_keeps_one_weight_of_every_layer_however_small():
    """Of (1, 2, 3) and (0.1, 0.1) three weights stay: by LAMP one and two, by magnitude two (one a layer)."""
    problem = weights_of([(3, 1), (2, 1)], 3)
    saliencies = {"l0": np.array([1.0, 2.0, 3.0]), "l1": np.array([0.1, 0.1])}
    assert create_agent("lamp").plan(env_of(problem, saliencies), 1) == (1, 2)
    assert create_agent("global").plan(env_of(problem, saliencies), 1) == (2, 1)


def test_snip_asks_for_the_connection_sensitivity():
    asked = []
    env = env_of(
        weights_of([(3, 1), (4, 1)], 4), {"l0": np.array([0.1, 0.2, 0.3]), "l1": np.array([0.6, 0.05, 0.5, 0.4])}
    )
    saliency = env.unwrapped.evaluator.saliency
    env.unwrapped.evaluator.saliency = lambda criterion: asked.append(criterion) or saliency(criterion)
    assert create_agent("snip").plan(env, 1) == (
        1,
        3,
    )  # the four largest: 0.6, 0.5, 0.4 and 0.3; uniform keeps two and two
    assert asked == ["snip"]


@given(st.data(), st.integers(1, 4), st.floats(0.3, 0.95))
def test_a_global_ranking_is_the_threshold_that_the_budget_allows(data, layers, keep):
    sizes = data.draw(st.lists(st.integers(2, 12), min_size=layers, max_size=layers))
    problem = weights_of([(size, 1) for size in sizes], max(keep, (layers + 0.5) / sum(sizes)))
    values = data.draw(st.permutations(range(sum(sizes))))
    scores = np.split(np.array(values, dtype=float), np.cumsum(sizes)[:-1])
    widths = ranked_widths(problem, scores)
    assert sum(widths) == problem.limit  # weights all cost the same
    kept = np.sort(
        np.concatenate([np.sort(part)[len(part) - width :] for part, width in zip(scores, widths, strict=True)])
    )
    best = np.sort(values)[-problem.limit :]
    if all((part >= best[0]).any() for part in scores):  # else the bound of one weight a layer counts
        assert (kept == best).all()


def test_ratios_are_read_off_a_curve_by_the_tolerance():
    """Losses of 0, 2 and 6 at keep ratios 1, 0.5 and 0.25."""
    keep, drops = np.array([1.0, 0.5, 0.25]), np.array([0.0, 2.0, 6.0])
    assert [tolerated_ratio(keep, drops, t) for t in (0.0, 1.0, 2.0, 4.0, 6.0, 9.0)] == [
        1.0,
        0.75,
        0.5,
        0.375,
        0.25,
        0.25,
    ]
    assert tolerated_ratio(keep, np.array([0.0, 2.0, 1.0]), 1.5) == pytest.approx(0.625)  # a loss once reached stays


def test_sensitivity_prunes_most_where_it_costs_least_and_counts_what_it_scores(toys):
    env = toys.ToyEnv(toys.toy_problem([1, 1, 1], size=32), [1.0, 2.0, 4.0])
    outcome = create_agent("sensitivity", levels=9).search(env, 20, seed=0)
    widths = outcome.best.allocation.key()
    assert widths[0] < widths[1] < widths[2]
    losses = env.sensitivity * (1 - np.sqrt(np.array(widths) / 32))
    assert losses[0] == pytest.approx(losses[2], rel=0.25)  # one tolerance for all, but for the curves' points
    assert len(env.evaluator.asked) + len(outcome.episodes) <= 20


def test_sensitivity_says_how_many_episodes_it_needs(toys):
    env = toys.ToyEnv(toys.toy_problem([1, 1, 1]), np.ones(3))
    with pytest.raises(
        ConfigurationError, match="each of the 3 layers alone first, which takes at least 5 episodes, not 4"
    ):
        create_agent("sensitivity").search(env, 4, seed=0)
    with pytest.raises(ConfigurationError, match="levels must be at least 1, not 0"):
        create_agent("sensitivity", levels=0)


def test_the_knapsack_by_hand():
    """Of (cost, error) (10, 0), (6, 1), (3, 4) and (10, 0), (5, 1.5), (2, 3) at 13: 6 + 5, an error of 2.5."""
    costs = [np.array([10.0, 6.0, 3.0]), np.array([10.0, 5.0, 2.0])]
    errors = [np.array([0.0, 1.0, 4.0]), np.array([0.0, 1.5, 3.0])]
    assert cheapest(costs, errors, 13) == (1, 1)
    assert cheapest(costs, errors, 20) == (0, 0)
    assert cheapest(costs, errors, 5) == (2, 2)


def test_a_knapsack_without_room_takes_the_cheapest_and_an_error_that_is_no_number_is_the_largest():
    costs = [np.array([3.0, 0.0]), np.array([1.0, 2.0])]
    assert cheapest(costs, [np.zeros(2), np.zeros(2)], 0) == (1, 0)
    assert cheapest(costs, [np.zeros(2), np.zeros(2)], -1) == (1, 0)
    assert cheapest(costs, [np.array([np.nan, 7.0]), np.zeros(2)], 5) == (1, 0)


@given(st.data(), st.integers(1, 4), st.integers(10, 40))
def test_the_knapsack_is_the_best_of_all_choices(data, layers, limit):
    costs, errors = [], []
    for _ in range(layers):
        levels = data.draw(st.integers(1, 4))
        costs.append(np.array(data.draw(st.lists(st.integers(0, 15), min_size=levels, max_size=levels)), float))
        errors.append(np.array(data.draw(st.lists(st.integers(0, 99), min_size=levels, max_size=levels)), float))
    choices = list(product(*(range(len(cost)) for cost in costs)))
    spent = {choice: sum(cost[i] for cost, i in zip(costs, choice, strict=True)) for choice in choices}
    lost = {choice: sum(error[i] for error, i in zip(errors, choice, strict=True)) for choice in choices}
    found = cheapest(costs, errors, limit, buckets=limit)
    if min(spent.values()) <= limit:
        assert spent[found] <= limit
        assert lost[found] == min(lost[choice] for choice in choices if spent[choice] <= limit)


def test_dynamic_programming_finds_the_least_error_of_all_allocations(toys):
    env = toys.small_env()
    errors = [env.evaluator.errors()[decision.name] for decision in env.problem.decisions]
    widths = create_agent("dp").plan(env, 1)
    assert total_error(errors, widths) == pytest.approx(total_error(errors, env.best()))


def test_a_policy_is_played_as_it_is_and_scaled_to_another_budget(toys, tmp_path):
    env = toys.wide_env(decisions=5)
    best = create_agent("erk").search(env, 1, seed=0).best.allocation
    (tmp_path / "policy.json").write_text(json.dumps(best.as_dict()))
    agent = create_agent("policy", file=str(tmp_path / "policy.json"))
    assert agent.search(env, 1, seed=0).best.allocation == best
    less = toys.ToyEnv(toys.toy_problem([2, 3, 4, 6, 8], size=32, budget=0.3), np.ones(5))
    found = agent.search(less, 1, seed=0).best.allocation
    assert less.problem.cost(less.problem.widths(found)) <= less.problem.limit
    with pytest.raises(ConfigurationError, match="the policy must be a readable file"):
        create_agent("policy", file=str(tmp_path / "none.json"))


def test_agents_that_look_at_saliency_need_an_environment_that_shows_it(toys):
    env = toys.small_env()
    del env.evaluator
    for name in ("lamp", "dp", "sensitivity"):
        with pytest.raises(ConfigurationError, match="needs an environment with an attribute 'evaluator'"):
            create_agent(name).search(env, 30, seed=0)
