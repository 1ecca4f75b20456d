"""Policies that were edited by hand: what does not fit, or contradicts itself, is refused in one line."""

from __future__ import annotations

import json

import pytest

import agents
from amc.errors import ConfigurationError, UnknownNameError
from amc.problem.decision import Decision
from amc.problem.edited_policy import check_costs, checked_policy
from amc.problem.space import DecisionSpace
from amc.storage.policy import read_policy

SPACES = {
    "filter": DecisionSpace((Decision("a.conv", 16), Decision("b.conv", 32, min_width=8, step=8)), "filter"),
    "weight": DecisionSpace((Decision("a.conv", 432), Decision("b.conv", 4608, min_width=46, step=2)), "weight"),
}
WIDTHS = {"filter": {"a.conv": 4, "b.conv": 24}, "weight": {"a.conv": 108, "b.conv": 3456}}
RATIOS = {"a.conv": 0.75, "b.conv": 0.25}


@pytest.fixture(params=SPACES)
def kind(request):
    return request.param


def write(folder, kind, **changes):
    """Writes a policy of either kind, with some of it changed; returns what reading it gives."""
    record = {"kind": kind, "widths": dict(WIDTHS[kind]), "pruning_ratios": dict(RATIOS), "costs": {"flops": 1}}
    for name, value in changes.items():
        record[name] = value
    file = folder / "policy.json"
    file.write_text(json.dumps(record))
    return read_policy(file)


def test_a_policy_as_it_was_written_passes(kind, tmp_path):
    for policy in (write(tmp_path, kind), write(tmp_path, kind, pruning_ratios={})):
        assert checked_policy(policy, SPACES[kind]).widths == WIDTHS[kind]
        assert checked_policy(policy, SPACES[kind], exactly=False).widths == WIDTHS[kind]


def test_people_round_ratios(kind, tmp_path):
    third = {**WIDTHS[kind], "a.conv": 5 if kind == "filter" else 144}
    ratio = round(1 - third["a.conv"] / SPACES[kind].decisions[0].size, 4)
    checked_policy(write(tmp_path, kind, widths=third, pruning_ratios={**RATIOS, "a.conv": ratio}), SPACES[kind])


@pytest.mark.parametrize("exactly", [True, False])
def test_ratios_that_disagree_with_the_widths_are_refused(kind, exactly, tmp_path):
    policy = write(tmp_path, kind, pruning_ratios={**RATIOS, "a.conv": 0.5})
    with pytest.raises(ConfigurationError, match=r"a\.conv, a pruning ratio of 0\.75, and pruning_ratios says 0\.5"):
        checked_policy(policy, SPACES[kind], exactly=exactly)


def test_a_decision_that_is_left_out_is_refused(kind, tmp_path):
    widths = {"a.conv": WIDTHS[kind]["a.conv"]}
    size = SPACES[kind].decisions[1].size
    for ratios in (RATIOS, {}):
        policy = write(tmp_path, kind, widths=widths, pruning_ratios=ratios)
        with pytest.raises(
            ConfigurationError, match=rf"b\.conv keeps, and leaves it out; write its {size} under widths"
        ):
            checked_policy(policy, SPACES[kind])
    assert checked_policy(policy, SPACES[kind], exactly=False).widths == widths  # it stays dense
    with pytest.raises(ConfigurationError, match="leaves it out"):
        checked_policy(write(tmp_path, kind, widths=widths), SPACES[kind], exactly=False)


@pytest.mark.parametrize("exactly", [True, False])
def test_a_ratio_that_is_left_out_is_refused_unless_all_are(kind, exactly, tmp_path):
    policy = write(tmp_path, kind, pruning_ratios={"a.conv": 0.75})
    with pytest.raises(
        ConfigurationError,
        match=r"of b\.conv, a pruning ratio of 0\.25, and pruning_ratios leaves it out; write it there, or delete",
    ):
        checked_policy(policy, SPACES[kind], exactly=exactly)
    checked_policy(write(tmp_path, kind, pruning_ratios={}), SPACES[kind], exactly=exactly)


@pytest.mark.parametrize("metric", ["flops", "params"])
def test_costs_that_disagree_with_the_widths_are_refused(metric, toys, tmp_path):
    problem = toys.small_env().problem
    widths = dict(zip([decision.name for decision in problem.decisions], problem.min_widths, strict=True))
    costs = problem.costs_of(problem.min_widths)
    assert metric in costs
    for fits in (costs, {}, {**costs, "latency_ns": 3}):  # one that is not known here cannot be checked
        check_costs(write(tmp_path, "filter", widths=widths, costs=fits), problem)
    policy = write(tmp_path, "filter", widths=widths, costs={**costs, metric: costs[metric] - 1})
    said = f"{costs[metric]:,} {metric}, and costs says {costs[metric] - 1:,}; correct costs, or delete it"
    with pytest.raises(ConfigurationError, match=said):
        check_costs(policy, problem)


@pytest.mark.parametrize("costs", [{"flops": "few"}, [1], "none"])
def test_costs_that_are_no_numbers_are_refused(costs, kind, tmp_path):
    with pytest.raises(ConfigurationError, match="is not a policy"):
        write(tmp_path, kind, costs=costs)


@pytest.mark.parametrize("place", ["widths", "pruning_ratios"])
def test_unknown_layers_are_refused_with_the_nearest_name(kind, place, tmp_path):
    known = WIDTHS[kind] if place == "widths" else RATIOS
    policy = write(tmp_path, kind, **{place: {**known, "b.cnv": 24}})
    with pytest.raises(UnknownNameError, match=r"unknown decision in .*policy\.json: 'b\.cnv'; did you mean 'b\.conv'"):
        checked_policy(policy, SPACES[kind])


@pytest.mark.parametrize("width", [0, 10**6, 7, 9])
def test_widths_that_may_not_be_kept_are_refused(kind, width, tmp_path):
    policy = write(tmp_path, kind, widths={**WIDTHS[kind], "b.conv": width}, pruning_ratios={})
    allowed = (
        r"8 to 32 of its 32 units in steps of 8" if kind == "filter" else r"46 to 4608 of its 4608 units in steps of 2"
    )
    with pytest.raises(ConfigurationError, match=rf"b\.conv must keep {allowed}, not {width}; write such a number, or"):
        checked_policy(policy, SPACES[kind])


def test_a_policy_of_the_other_kind_is_refused_with_the_option(kind, tmp_path):
    other = next(name for name in SPACES if name != kind)
    with pytest.raises(ConfigurationError, match=rf"kind '{other}', not '{kind}'; set --pruning.family {kind}"):
        checked_policy(write(tmp_path, kind), SPACES[other])


def test_the_agent_that_plays_a_policy_checks_it_too(toys, tmp_path):
    env = toys.small_env()
    names = [decision.name for decision in env.problem.decisions]
    record = {"kind": "filter", "widths": dict.fromkeys(names, 1), "pruning_ratios": dict.fromkeys(names, 0.0)}
    (tmp_path / "policy.json").write_text(json.dumps(record))
    agent = agents.create_agent("policy", file=str(tmp_path / "policy.json"))
    with pytest.raises(ConfigurationError, match="pruning_ratios says 0; change both"):
        agent.search(env, 1, seed=0)
