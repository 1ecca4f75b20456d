"""A profile as the target of a budget, and its file."""

from __future__ import annotations

import json

import msgspec
import pytest
import torch
from torch import nn

import amc
from amc.costs import Budget
from amc.errors import BudgetError, ConfigurationError
from amc.latency.profile_file import read_profile, write_profile
from amc.latency.target import LatencyTarget
from amc.pipeline.task import build_problem
from amc.tracing.trace import trace_structure


@pytest.fixture(scope="module")
def structure():
    net = nn.Sequential(
        nn.Conv2d(3, 64, 1), nn.ReLU(), nn.Conv2d(64, 128, 1), nn.ReLU(), nn.Flatten(), nn.Linear(128 * 64, 2)
    )
    return trace_structure(net.eval(), torch.zeros(1, 3, 8, 8))


@pytest.fixture
def target(make_profile, tmp_path):
    """Returns what reads a profile whose decisions go by the names of the network's layers."""

    def make(**changes):
        names = {"a": "0", "b": "2"}
        profile = make_profile(**changes)
        profile.decisions = {names[name]: size for name, size in profile.decisions.items()}
        profile.steps = {names[name]: step for name, step in profile.steps.items()}
        for network in profile.networks:
            network.widths = {names[name]: width for name, width in network.widths.items()}
        write_profile(tmp_path / "profile.json", profile)
        return LatencyTarget.read(tmp_path / "profile.json")

    return make


def test_a_share_of_the_time_bounds_the_widths(structure, target):
    problem = build_problem(structure, Budget(latency=0.5), amc.PruningConfig(round_to=8), target())
    widths = problem.project([1.0, 1.0])
    assert problem.cost(widths, "latency") <= problem.costs["latency"].dense // 2
    assert set(problem.dense_costs) >= {"flops", "params", "latency"}
    assert problem.fill(problem.min_widths) == problem.fill(problem.fill(problem.min_widths))


def test_time_and_flops_hold_at_once(structure, target):
    problem = build_problem(structure, Budget(latency=0.6, flops=0.3), amc.PruningConfig(round_to=8), target())
    widths = problem.project([1.0, 0.5])
    for metric, share in (("latency", 0.6), ("flops", 0.3)):
        assert problem.cost(widths, metric) <= share * problem.costs[metric].dense


def test_milliseconds_are_nanoseconds():
    assert Budget(latency_ms=4.0).limits({"latency": 5_000_000}) == {"latency": 4_000_000}
    with pytest.raises(BudgetError, match=r"give latency .* or latency_ms, not both"):
        Budget(latency=0.5, latency_ms=4.0)
    with pytest.raises(BudgetError, match=r"a number of milliseconds above 0, such as 4\.0, not -1"):
        Budget(latency_ms=-1)


def test_time_without_a_profile_is_refused(structure):
    with pytest.raises(BudgetError, match=r"needs a profile of the device: .*--budget.profile FILE"):
        build_problem(structure, Budget(latency=0.5), amc.PruningConfig())


def test_weight_pruning_is_not_faster(structure, target):
    with pytest.raises(BudgetError, match="zeros do not make a network faster"):
        build_problem(structure, None, amc.PruningConfig(family="weight"), target())


def test_a_profile_of_another_network_is_refused(structure, make_profile, tmp_path):
    write_profile(tmp_path / "p.json", make_profile())
    other = LatencyTarget.read(tmp_path / "p.json")
    with pytest.raises(BudgetError, match=r"must be of this network, but is of two: 0 has 64 .* does not vary it"):
        build_problem(structure, Budget(latency=0.5), amc.PruningConfig(), other)


def test_widths_off_the_steps_of_the_profile_are_refused(structure, target):
    with pytest.raises(BudgetError, match=r"measured at multiples of 8 for 0, and widths are multiples of 1"):
        build_problem(structure, Budget(latency=0.5), amc.PruningConfig(round_to=1), target())


def test_a_profile_of_another_engine_is_refused(target):
    with pytest.raises(BudgetError, match="of the engine 'openvino', and networks are timed here in"):
        target(engine="openvino")


def test_an_unfinished_profile_is_refused(target, make_profile):
    with pytest.raises(BudgetError, match="69 of 80 networks"):
        target(planned=80)


def test_profiles_are_read_back(make_profile, tmp_path):
    write_profile(tmp_path / "p.json", make_profile())
    assert read_profile(tmp_path / "p.json") == make_profile()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "must be of format 1, and is of 2: written by a newer amc; update amc"),
        ({"format": 0}, "must be of format 1, and is of 0: written by an older amc; profile again"),
        ({"format": "1"}, "must be a profile as 'amc profile' writes it: Expected `int`, got `str`"),
        ({"networks": []}, "must hold the dense network's times first"),
        ({"threads": -1}, "Expected `int` >= 1"),
        ({"decisions": {"a": 8, "b": 8}}, "names a width of 'a' that the network does not have"),
    ],
)
def test_damaged_profiles_are_refused(make_profile, tmp_path, change, message):
    record = {**msgspec.to_builtins(make_profile()), **change}
    (tmp_path / "p.json").write_text(json.dumps(record))
    with pytest.raises(ConfigurationError, match=message):
        read_profile(tmp_path / "p.json")


def test_a_missing_profile_says_how_one_is_made(tmp_path):
    with pytest.raises(ConfigurationError, match="'amc profile --out FILE' makes one"):
        read_profile(tmp_path / "none.json")


def test_networks_that_take_no_time_are_refused(make_profile, tmp_path):
    record = msgspec.to_builtins(make_profile())
    record["networks"][0]["dense"] = [0, 0]
    (tmp_path / "p.json").write_text(json.dumps(record))
    with pytest.raises(ConfigurationError, match="must be a profile as 'amc profile' writes it"):
        read_profile(tmp_path / "p.json")


@pytest.mark.parametrize("length", [2**31, 10**30])
def test_lengths_beyond_what_a_tensor_may_have_are_refused(make_profile, tmp_path, length):
    record = msgspec.to_builtins(make_profile())
    record["networks"][0]["operators"][0]["shape"][0] = length
    (tmp_path / "p.json").write_text(json.dumps(record))
    with pytest.raises(ConfigurationError, match="must be a profile as 'amc profile' writes it"):
        read_profile(tmp_path / "p.json")
