"""What the state may hold beside the paper's features: closed forms, bounds, and names that are refused."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

import envs
from agents import create_agent
from amc.costs import Budget
from amc.errors import UnknownNameError
from amc.problem.evaluator import FunctionEvaluator
from amc.problem.score import Score
from envs.extra_features import EXTRA_FEATURES
from envs.observation import FEATURES, ObservationEncoder, feature_names

OF_THE_LAYER = ("depth", "sensitivity")
ALL = ("budget", *OF_THE_LAYER, "dp")


class Known(FunctionEvaluator):
    """Layer i loses `(1 - width / size) * (i + 1)`."""

    def __init__(self, problem):
        super().__init__(lambda allocation: Score(50.0, 1.0, images=1))
        self.problem, self.asked = problem, 0

    def errors(self):
        self.asked += 1
        return {
            decision.name: (1 - np.arange(decision.size + 1) / decision.size) * (index + 1)
            for index, decision in enumerate(self.problem.decisions)
        }


def test_they_follow_the_papers_in_the_order_that_is_asked_for(make_problem):
    problem = make_problem()
    env = gymnasium.make(envs.FILTER_PRUNING, problem=problem, evaluator=Known(problem), features=("depth", "budget"))
    assert env.unwrapped.feature_names == (*(feature.name for feature in FEATURES), "depth", "budget")
    assert env.reset()[0].shape == env.observation_space.shape == (13,)


def test_the_budget_is_what_is_left_for_the_open_decisions(make_problem):
    """Cost 4a + ab + 2bc, 212 when dense, half of it the limit; widths 1 to 8, 10 and 6."""
    problem = make_problem()
    encoder, walk = ObservationEncoder(problem, ("budget",), Known(problem)), problem.walk()
    seen = [encoder.encode(walk, 0.0)[-1]]
    walk.choose(4)
    seen.append(encoder.encode(walk, 0.0)[-1])
    smallest = [problem.cost(problem.min_widths), problem.cost((4, *problem.min_widths[1:]))]
    largest = [problem.cost(problem.max_widths), problem.cost((4, *problem.max_widths[1:]))]
    expected = [(problem.limit - low) / (high - low) for low, high in zip(smallest, largest, strict=True)]
    assert seen == pytest.approx(expected)


def test_without_a_budget_all_may_be_kept(make_problem):
    problem = make_problem(None)
    assert ObservationEncoder(problem, ("budget",), Known(problem)).encode(problem.walk(), 0.0)[-1] == 1.0


@pytest.mark.parametrize("budget", [0.3, 0.5, 0.9])
def test_every_entry_stays_in_its_range_whatever_is_chosen(make_problem, budget):
    problem = make_problem(Budget(flops=budget))
    encoder, generator = ObservationEncoder(problem, ALL, Known(problem)), np.random.default_rng(0)
    for _ in range(20):
        walk = problem.walk()
        for _ in problem.decisions:
            low, high = walk.bounds()
            walk.choose(int(generator.integers(low, high + 1)))
            seen = encoder.encode(walk, 0.0)
            assert ((seen >= 0) & (seen <= 1)).all()


def test_depth_and_sensitivity_are_those_of_the_open_decision(make_problem):
    problem = make_problem()
    known = Known(problem)
    encoder, walk = ObservationEncoder(problem, OF_THE_LAYER, known), problem.walk()
    flops = [layer.flops for layer in problem.layers]
    halves = [(1 - d.size // 2 / d.size) * (index + 1) for index, d in enumerate(problem.decisions)]
    assert known.asked == 0
    for index, decision in enumerate(problem.decisions):
        depth, sensitivity = encoder.encode(walk, 0.0)[-2:]
        assert depth == pytest.approx(sum(flops[:index]) / sum(flops))
        assert sensitivity == pytest.approx(np.sqrt(halves[index] / max(halves)))
        walk.choose(decision.smallest)
    assert known.asked == 1


def dp_seen(problem):
    """Returns the feature `dp` of every decision, one a step."""
    encoder, walk, seen = ObservationEncoder(problem, ("dp",), Known(problem)), problem.walk(), []
    for decision in problem.decisions:
        seen.append(encoder.encode(walk, 0.0)[-1])
        walk.choose(decision.smallest)
    return seen


@pytest.mark.parametrize("budget", [0.3, 0.7])
def test_dp_is_what_the_agent_of_that_name_removes(make_problem, budget):
    problem = make_problem(Budget(flops=budget))
    env = gymnasium.make(envs.FILTER_PRUNING, problem=problem, evaluator=Known(problem))
    allocation = create_agent("dp").search(env, 1, seed=0).best.allocation
    kept = problem.keep_ratios(problem.widths(allocation))
    assert min(kept) < 1
    assert dp_seen(problem) == pytest.approx([1 - ratio for ratio in kept])


def test_without_a_budget_dp_removes_nothing(make_problem):
    assert dp_seen(make_problem(None)) == [0.0, 0.0, 0.0]


def test_names_that_are_none_suggest_the_nearest(make_problem):
    problem = make_problem()
    with pytest.raises(UnknownNameError, match="unknown feature 'budgte'; did you mean 'budget'"):
        gymnasium.make(envs.FILTER_PRUNING, problem=problem, evaluator=Known(problem), features=("budgte",))
    assert set(EXTRA_FEATURES.names()) == set(ALL)
    assert feature_names(ALL)[11:] == ALL
