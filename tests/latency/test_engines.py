"""Timing networks: in turn, operator by operator, here and by the script for another device."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial

import pytest
import torch
from torch import nn

from amc.errors import ConfigurationError, RunFolderError
from amc.latency import device_script
from amc.latency.fit import fit_latency
from amc.latency.networks import network_with
from amc.latency.plan import plan_networks
from amc.latency.profile_file import read_profile
from amc.latency.profiling import begin_profile, measure_profile, prepare_folder, slowed, timer_for
from amc.problem.filter_problem import filter_problem
from amc.tracing.trace import trace_structure


def cutter(family):
    return partial(network_with, *family[:2])


class Ticks:
    """A clock that advances by what the caller says, and by a second each time it is read."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture(scope="module")
def family():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.Flatten(), nn.Linear(256, 2)
    ).eval()
    example = torch.zeros(1, 3, 8, 8)
    structure = trace_structure(net, example)
    return net, structure, example, filter_problem(structure, None, round_to=2)


def test_networks_take_turns_in_an_order_that_is_reversed():
    clock, order = Ticks(), []

    def run(name, seconds):
        order.append(name)
        clock.now += seconds

    times = device_script.in_turn([lambda: run("a", 1.0), lambda: run("b", 0.5)], 3, clock)
    assert times == [[1000.0] * 3, [500.0] * 3]
    assert order[2 * device_script.WARM_UPS :] == [*"aabb", *"bbaa", *"aabb"]
    assert device_script.compared(*times)["ratio"] == 0.5


def test_operators_without_a_name_are_told_apart_within_a_run():
    def node(name, us):
        shape = {"input_type_shape": [{"float": [1, 2]}], "output_type_shape": [{"float": [3]}], "op_name": "Op"}
        return {"cat": "Node", "name": f"{name}_kernel_time", "dur": us, "args": shape}

    run = [node("x", 4), node("x", 6), {"cat": "Session", "name": "model_run", "dur": 12}]
    found = device_script.operators_in(run * 5)
    assert [(entry["name"], entry["us"][0], entry["shape"]) for entry in found] == [
        ("x", 4.0, [1, 2, 3]),
        ("x#2", 6.0, [1, 2, 3]),
    ]


@pytest.mark.parametrize("engine", ["onnxruntime", "torch"])
def test_a_profile_is_measured_and_continued(family, engine, tmp_path):
    net, structure, example, problem = family
    timer = timer_for(engine, net, structure, example, 2, 1)
    plan = plan_networks(problem, fitted=6, checks=2, probes=1)
    file = tmp_path / "profile.json"

    def begin():
        return begin_profile("small", problem, plan, timer.describe(), 2, 1)

    with pytest.raises(KeyboardInterrupt):
        measure_profile(begin(), plan, cutter(family), timer, file, _stop_after(5))
    before = read_profile(file)
    assert (len(before.networks), before.finished) == (5, False)
    profile = measure_profile(begin(), plan, cutter(family), timer, file)
    assert profile.finished
    assert profile.networks[:5] == before.networks
    assert fit_latency(profile).predicted_ns({}) > 0
    assert {"mape", "bias", "rank_correlation", "off_grid"} <= set(profile.check)
    kinds = {operator.kind for operator in profile.networks[0].operators}
    assert kinds & {"Conv", "FusedConv", "convolution"}


def _stop_after(count):
    calls = []

    def advance(share, note="", /):
        calls.append(share)
        if len(calls) == count:
            raise KeyboardInterrupt

    return advance


def test_a_file_of_another_profile_is_not_continued(family, tmp_path):
    net, structure, example, problem = family
    timer = timer_for("torch", net, structure, example, 1, 1)
    plan = plan_networks(problem, fitted=4, checks=1, probes=0)
    file = tmp_path / "profile.json"
    measure_profile(begin_profile("small", problem, plan, timer.describe(), 1, 1), plan, cutter(family), timer, file)
    other = begin_profile("small", problem, plan, timer.describe(), 1, 2)
    with pytest.raises(ConfigurationError, match="a profile with rounds 1, not 2; name another file with --out"):
        measure_profile(other, plan, cutter(family), timer, file)


def test_another_device_needs_the_folder_alone(family, tmp_path):
    net, structure, example, problem = family
    plan = plan_networks(problem, fitted=4, checks=1, probes=0)
    folder = tmp_path / "phone"
    prepare_folder(folder, "small", problem, plan, net, structure, example)
    words = [sys.executable, "-I", str(folder / "measure.py"), "--rounds", "1"]
    lines = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    remedy = f"6 of 6 networks are measured; bring {folder / 'profile.json'} back"
    assert lines[-1] == remedy
    assert len(lines) < 6, "a line every few seconds is enough"
    profile = read_profile(folder / "profile.json")
    assert profile.finished
    assert profile.engine == "onnxruntime"
    assert profile.decisions == {decision.name: decision.size for decision in problem.decisions}
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines() == [remedy]
    record = json.loads((folder / "profile.json").read_text())
    (folder / "profile.json").write_text(json.dumps({**record, "processor": "other"}))
    assert "with other settings" in subprocess.run(words, capture_output=True, text=True, check=False).stderr
    with pytest.raises(RunFolderError, match="must be new or empty"):
        prepare_folder(folder, "small", problem, plan, net, structure, example)


def test_a_device_that_throttles_is_named(make_profile):
    profile = make_profile()
    assert slowed(profile) is None
    for network in profile.networks[-30:]:
        network.dense = (2 * network.dense[0], 2 * network.dense[1])
    assert "became 2.0 times slower" in slowed(profile)
