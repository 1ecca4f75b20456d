"""Decisions about whole residual blocks: rules leave them alone, and agents that search may drop them."""

from __future__ import annotations

import json

import gymnasium
import numpy as np
import pytest
import torch
from torch import nn

import envs  # noqa: F401 - registers the environments
from agents import AGENTS, create_agent
from amc.costs import Budget
from amc.problem import filter_problem
from amc.problem.evaluator import Evaluator
from amc.problem.score import Score
from amc.tracing.trace import trace_structure

RULES = ("uniform", "erk", "erdos_renyi", "shallow", "deep", "global", "lamp", "snip")


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(8, 16, 3, padding=1), nn.Conv2d(16, 8, 3, padding=1)

    def forward(self, x):
        return x + self.last(torch.relu(self.first(x)))


@pytest.fixture(scope="module")
def structure():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), Block(), Block(), Block(), nn.Conv2d(8, 12, 3), nn.Conv2d(12, 4, 3))
    return trace_structure(model, torch.zeros(1, 3, 16, 16), blocks=True)


class Fond(Evaluator):
    """Likes networks without blocks, and those with channels."""

    def __init__(self, problem):
        self.problem = problem

    def score(self, allocation):
        gone = sum(not width for width in allocation.widths.values())
        kept = np.mean(self.problem.keep_ratios(self.problem.widths(allocation)))
        return Score(accuracy=float(20 * gone + 10 * kept), cross_entropy=1.0)

    def saliency(self, criterion):
        return {decision.name: np.linspace(0.1, 1, decision.size) for decision in self.problem.decisions}

    def errors(self):
        return {decision.name: np.linspace(1, 0, decision.size + 1) for decision in self.problem.decisions}


def environment(structure, share, mode="clip"):
    problem = filter_problem(structure, Budget(flops=share), min_keep_ratio=0.01)
    return gymnasium.make("AMC/FilterPruning-v0", problem=problem, evaluator=Fond(problem), allocation_mode=mode)


def dropped(problem, allocation):
    return [d.name for d in problem.decisions if d.may_vanish and not allocation.widths[d.name]]


def test_a_block_is_decided_ahead_of_its_channels(structure):
    decisions = filter_problem(structure, None).decisions
    assert [decision.name for decision in decisions] == ["1", "1.first", "2", "2.first", "3", "3.first", "4"]
    assert [decision.width(level) for decision in decisions[:1] for level in range(decision.levels)] == [0, 1]


@pytest.mark.parametrize("mode", ["clip", "project"])
@pytest.mark.parametrize("name", AGENTS.names())
def test_every_agent_meets_the_budget(structure, name, mode, tmp_path):
    env = environment(structure, 0.4, mode)
    problem, options = env.unwrapped.problem, {}
    if name == "policy":
        (tmp_path / "policy.json").write_text(json.dumps({"kind": "filter", "widths": {"1": 0}}))
        options = {"file": str(tmp_path / "policy.json")}
    if name == "ddpg":
        options = {"hidden": (16, 16), "ensemble_hidden": 8}
    outcome = create_agent(name, **options).search(env, 16, seed=0)
    for episode in outcome.episodes:
        assert episode.costs["flops"] == problem.cost(problem.widths(episode.allocation)) <= problem.limit


@pytest.mark.parametrize("share", [0.6, 0.3, 0.12])
@pytest.mark.parametrize("name", RULES)
def test_rules_about_widths_leave_blocks_whole(structure, name, share):
    env = environment(structure, share)
    outcome = create_agent(name).search(env, 1, seed=0)
    assert dropped(env.unwrapped.problem, outcome.best.allocation) == []


@pytest.mark.parametrize("name", RULES)
def test_rules_drop_blocks_where_nothing_else_meets_the_budget(structure, name):
    env = environment(structure, 0.05)
    problem = env.unwrapped.problem
    smallest = problem.cost([max(1, width) for width in problem.min_widths])
    assert smallest > problem.limit
    outcome = create_agent(name).search(env, 1, seed=0)
    assert dropped(problem, outcome.best.allocation)
    assert outcome.best.costs["flops"] <= problem.limit


@pytest.mark.parametrize("name", ["random", "cem", "cmaes", "ddpg:hidden=[32, 32]"])
def test_agents_that_search_drop_blocks(structure, name):
    env = environment(structure, 0.6, "project")
    outcome = create_agent(name).search(env, 24, seed=0)
    assert dropped(env.unwrapped.problem, outcome.best.allocation)


def test_the_penalty_drops_what_is_closed(structure):
    env = environment(structure, 0.6)
    problem = env.unwrapped.problem
    closed = problem.decisions[2].name
    env.unwrapped.evaluator.saliency = lambda criterion: {
        d.name: np.zeros(1) if d.name == closed else np.ones(d.size) for d in problem.decisions
    }
    outcome = create_agent("penalty").search(env, 1, seed=0)
    assert dropped(problem, outcome.best.allocation) == [closed]


def test_bounds_and_exclusions_keep_blocks(structure):
    def offered(**rules):
        return [d.name for d in filter_problem(structure, None, **rules).decisions if d.may_vanish]

    assert offered() == ["1", "2", "3"]
    assert offered(exclude=["2.*"]) == ["1", "3"]
    assert offered(bounds={"3*": (0.0, 0.5)}) == ["1", "2"]
    assert offered(bounds={"3*": (0.0, 1.0)}) == ["1", "2", "3"]


def test_a_request_for_half_a_block_or_more_keeps_it_at_any_budget(structure):
    for share in (0.2, 0.5, 0.8):
        problem = filter_problem(structure, Budget(flops=share), min_keep_ratio=0.01)
        requests = [0.5 if decision.name == "1" else 0.3 for decision in problem.decisions]
        widths = dict(zip([d.name for d in problem.decisions], problem.project(requests), strict=True))
        assert widths["1"] == 1
        assert problem.cost(tuple(widths.values())) <= problem.limit
