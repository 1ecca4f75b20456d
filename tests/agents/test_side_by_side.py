"""Agents that play several episodes at once play the same episodes as one after the other, and announce them."""

import pytest

from agents import create_agent
from amc.problem.evaluator import Evaluator
from amc.problem.score import Score
from envs.pruning_env import FilterPruningEnv


@pytest.fixture
def problem(toys):
    return toys.toy_problem([3, 1, 4, 1, 5])


class Counting(Evaluator):
    """Scores by a formula; keeps what was announced, in batches, and what was asked for."""

    def __init__(self, places):
        self.places, self.batches, self.asked = places, [], []

    @property
    def side_by_side(self):
        return self.places

    def expect(self, allocations):
        self.batches.append([allocation.key() for allocation in allocations])

    def score(self, allocation):
        self.asked.append(allocation.key())
        return Score(50.0 + sum(place * width for place, width in enumerate(allocation.widths.values())) % 37, 0.5)


def played(agent, problem, places, mode="clip", episodes=40):
    evaluator = Counting(places)
    env = FilterPruningEnv(problem, evaluator, allocation_mode=mode)
    order = []
    result = create_agent(agent).search(env, episodes, seed=3, on_episode=lambda each: order.append(each.episode))
    assert order == list(range(len(result.episodes)))
    return [(each.allocation.key(), each.reward) for each in result.episodes], evaluator


@pytest.mark.parametrize("mode", ["clip", "project"])
@pytest.mark.parametrize("agent", ["random", "cem:population=6", "cmaes", "tpe", "uniform"])
def test_episodes_are_the_same_side_by_side(agent, mode, problem):
    alone, evaluator = played(agent, problem, 1, mode)
    assert not evaluator.batches
    together, evaluator = played(agent, problem, 3, mode)
    assert together == alone
    announced = [key for batch in evaluator.batches for key in batch]
    assert set(announced) <= set(evaluator.asked)
    if agent in ("random", "cem:population=6", "cmaes"):
        assert max(map(len, evaluator.batches)) > 1
        assert len(announced) > 30


def test_a_generation_is_announced_and_no_more(problem):
    _, evaluator = played("cem:population=6;warm_start=[]", problem, 8, episodes=15)
    assert [len(batch) for batch in evaluator.batches] == [6, 6, 3]


def test_ddpg_announces_what_its_environments_end_with(problem):
    agent = "ddpg:environments=4;warm_start=[];hidden=[16, 16];ensemble_hidden=8"
    _, evaluator = played(agent, problem, 1, episodes=12)
    assert [len(batch) for batch in evaluator.batches] == [4, 4, 4]
    assert [key for batch in evaluator.batches for key in batch] == evaluator.asked
