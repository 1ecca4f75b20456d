"""A budget in time is met by measurement."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

import amc
from amc.costs import Budget
from amc.errors import RunFolderError
from amc.latency.device_script import processor_name
from amc.latency.profile_file import write_profile
from amc.pipeline import speed
from amc.pipeline.acceptance import Acceptance, accept
from amc.pipeline.deliver import Workshop
from amc.pipeline.prepare import prepare
from amc.pipeline.recorder import Recorder
from amc.training import FineTuneConfig


class Remembering(Recorder):
    """Remembers as a folder does, in JSON."""

    def __init__(self):
        self.kept = {}

    def recall(self, name):
        return self.kept.get(name)

    def remember(self, name, record):
        self.kept[name] = json.loads(json.dumps(record))


class FakeTimer:
    """Measures `factor` times what the profile predicts."""

    def __init__(self, factor, predict):
        self.factor, self.predict, self.seen = factor, predict, []

    def compare(self, network, rounds):
        widths = {name: network.get_submodule(name).out_channels for name in ("0", "2")}
        self.seen.append(widths)
        share = self.factor * self.predict(widths)
        return {"ratio": share, "network": [share * 10, share * 10], "dense": [10, 10]}


@pytest.fixture
def make_task(make_profile, tmp_path):
    def make(budget, **changes):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, 64, 1), nn.ReLU(), nn.Conv2d(64, 128, 1), nn.ReLU(), nn.AvgPool2d(8), nn.Flatten()
        )
        net.append(nn.Linear(128, 2))
        profile = make_profile(**{"processor": processor_name(), **changes})
        names = {"a": "0", "b": "2"}
        profile.decisions = {names[name]: size for name, size in profile.decisions.items()}
        profile.steps = {names[name]: step for name, step in profile.steps.items()}
        for network in profile.networks:
            network.widths = {names[name]: width for name, width in network.widths.items()}
        write_profile(tmp_path / "profile.json", profile)
        target = amc.latency.target.LatencyTarget.read(tmp_path / "profile.json")
        return prepare(
            net,
            None,
            budget,
            pruning=amc.PruningConfig(round_to=8, min_keep_ratio=0.0),
            finetune=FineTuneConfig(epochs=0),
            evaluate=lambda model: 1.0,
            example_input=torch.zeros(1, 3, 8, 8),
            device="cpu",
            latency=target,
        )

    return make


def shares(task):
    fitted = task.latency.fitted
    return lambda widths: fitted.predicted_ns(widths) / fitted.predicted_ns({})


def chosen(task):
    return task.problem.allocation(task.problem.project([1.0, 1.0]))


def test_a_network_that_holds_is_kept(make_task):
    task = make_task(Budget(latency=0.5))
    allocation = chosen(task)
    found = accept(task, allocation, FakeTimer(1.0, lambda widths: 0.48))
    assert (found.allocation, found.steps, found.note) == (allocation, 0, None)
    assert found.measured == 0.48
    assert found.predicted == pytest.approx(shares(task)(dict(allocation.widths)))


def test_a_network_that_misses_is_shrunk_by_as_much(make_task):
    task = make_task(Budget(latency=0.5))
    allocation, timer = chosen(task), FakeTimer(1.2, shares(task))
    found = accept(task, allocation, timer)
    assert found.measured <= 0.98 * 0.5
    assert found.steps == len(timer.seen) - 1 >= 1
    assert found.measured > 0.4  # by no more than that
    widths = zip(task.problem.widths(found.allocation), task.problem.widths(allocation), strict=True)
    assert all(after <= before for after, before in widths)


def test_a_network_that_is_faster_than_asked_for_is_grown(make_task):
    task = make_task(Budget(latency=0.5))
    allocation, timer = chosen(task), FakeTimer(0.7, shares(task))
    found = accept(task, allocation, timer)
    assert 0.94 * 0.5 <= found.measured <= 0.98 * 0.5
    assert found.steps == len(timer.seen) - 1 >= 1
    widths = zip(task.problem.widths(found.allocation), task.problem.widths(allocation), strict=True)
    assert all(after >= before for after, before in widths)


def test_a_network_grows_no_further_than_the_other_bounds(make_task):
    task = make_task(Budget(latency=0.5, params=0.5))
    found = accept(task, chosen(task), FakeTimer(0.5, shares(task)))
    assert found.note is None
    params = task.problem.cost(task.problem.widths(found.allocation), "params")
    assert params <= task.problem.limits["params"]


def test_what_held_is_kept_where_growing_ends_too_slow(make_task):
    task = make_task(Budget(latency=0.5))
    allocation, before = chosen(task), []

    def leaping(widths):
        before.append(widths)
        return 0.4 if len(before) == 1 else 0.6

    found = accept(task, allocation, FakeTimer(1.0, leaping))
    assert (found.allocation, found.measured, found.note) == (allocation, 0.4, None)
    assert len(before) <= 9


def test_milliseconds_are_held_as_measured(make_task):
    task = make_task(Budget(latency_ms=0.2))
    dense_ms = task.latency.fitted.predicted_ns({}) / 1e6
    found = accept(task, chosen(task), FakeTimer(1.1 * dense_ms / 10, shares(task)))
    assert found.budget == pytest.approx(0.2)
    assert 0.15 < found.measured <= 0.2
    assert found.steps


def test_a_budget_that_cannot_be_met_is_named_after_a_few_tries(make_task):
    task = make_task(Budget(latency=0.5))
    timer = FakeTimer(1.0, lambda widths: 0.9)
    found = accept(task, chosen(task), timer)
    assert "the time budget is not met: the network takes 0.900 of the dense network's" in found.note
    assert len(timer.seen) <= 9


def test_another_device_is_not_measured_here(make_task):
    task = make_task(Budget(latency=0.5), processor="armv8 phone")
    found = accept(task, chosen(task))
    assert found.measured is None
    assert "was not measured: the profile is of another device (armv8 phone)" in found.note


def test_without_a_bound_on_time_nothing_is_measured(make_task):
    task = make_task(Budget(flops=0.5))
    assert accept(task, chosen(task), FakeTimer(2.0, shares(task))) is None


def test_what_was_accepted_is_read_back(make_task):
    task = make_task(Budget(latency=0.5))
    found = accept(task, chosen(task), FakeTimer(1.2, shares(task)))
    assert Acceptance.from_dict(json.loads(json.dumps(found.as_dict()))) == found


def test_what_was_measured_once_is_not_measured_again(make_task, monkeypatch):
    task = make_task(Budget(latency=0.5))
    timer = FakeTimer(1.2, shares(task))
    monkeypatch.setattr(speed, "timer_for", lambda *arguments: timer)
    recorder, workshop = Remembering(), Workshop(task)
    first = workshop.accept("ddpg", chosen(task), recorder)
    count = len(timer.seen)
    assert workshop.accept("ddpg", chosen(task), recorder) == first
    assert len(timer.seen) == count
    recorder.kept["time of ddpg"]["steps"] = "many"
    with pytest.raises(RunFolderError, match="'time of ddpg' of the run is damaged"):
        workshop.accept("ddpg", chosen(task), recorder)


def test_a_run_reports_what_was_predicted_and_measured(make_task, monkeypatch, tmp_path):
    task = make_task(Budget(latency=0.5))
    timer = FakeTimer(1.2, shares(task))
    monkeypatch.setattr(speed, "timer_for", lambda *arguments: timer)
    result = amc.compress(
        task.model,
        amc.OwnTask(lambda model: 1.0, example_input=torch.zeros(1, 3, 8, 8)),
        Budget(latency=0.5, profile=tmp_path / "profile.json"),
        agent="uniform",
        pruning=amc.PruningConfig(round_to=8, min_keep_ratio=0.0),
        finetune=lambda model: None,
        device="cpu",
    )
    report = result.summary["time_budget"]
    assert report["met"]
    assert report["measured"] <= 0.5
    assert result.summary["latency_ms"]["engine"] == "onnxruntime"
    assert result.summary["latency_ms"]["ratio"] == report["measured"]
    assert report["model_check"]["networks"] == 24
    assert len(report["model_points"]) == 24
    assert all(0 < share < 2 for point in report["model_points"] for share in point)
    assert result.policy["widths"] == timer.seen[-1]
    assert any(note.startswith("time: ") for note in result.summary["notes"])
