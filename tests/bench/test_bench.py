"""The bench counts what it says, and its reference does what the reference procedure does."""

import json
import shutil
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from amc.bench.clock import SectionClock
from amc.bench.curve import CurvePoint
from amc.bench.reference import ReferenceProcedure
from amc.bench.speed import BenchConfig
from amc.bench.tables import curve_table, speed_table
from amc.cli.main import main
from amc.costs import Budget
from amc.data import DataConfig, load_data
from amc.errors import ConfigurationError
from amc.models import create_model
from amc.pipeline.prepare import prepare
from amc.pruning import PruningConfig
from amc.report.tables import render
from amc.runtime.clock import clock_for
from amc.training import FineTuneConfig, evaluate

QUICK = ["--data.train_images", "300", "--data.calibration_images", "40", "--device", "cpu", "--episodes", "2"]


class HandClock:
    """A clock that is moved by hand."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Worker:
    def __init__(self, clock):
        self.clock = clock

    def outer(self):
        self.clock.now += 1
        self.inner()
        self.inner()
        self.clock.now += 2

    def inner(self):
        self.clock.now += 10


@pytest.mark.parametrize(("threads", "clock"), [(1, time.process_time), (2, time.perf_counter)])
def test_one_thread_is_timed_by_the_processor(threads, clock):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        assert clock_for(torch.device("cpu")) is clock
        assert clock_for(torch.device("cuda")) is time.perf_counter
    finally:
        torch.set_num_threads(before)


def test_time_goes_to_the_innermost_section():
    hand = HandClock()
    clock, worker = SectionClock("rest", hand), Worker(hand)
    with clock.wrapped(Worker, "outer", "outer"), clock.wrapped(Worker, "inner", "inner"), clock.running():
        hand.now += 5
        worker.outer()
    hand.now += 100
    worker.outer()  # no longer wrapped
    with clock.running():
        hand.now += 1
    assert clock.seconds == {"rest": 6, "outer": 3, "inner": 20}
    assert clock.total == 29


@pytest.fixture(scope="module")
def task():
    data = load_data(DataConfig(train_images=300, calibration_images=50, test_images=20))
    return prepare(
        create_model("digits_resnet", seed=0),
        data,
        Budget(flops=0.5),
        pruning=PruningConfig(),
        finetune=FineTuneConfig(epochs=0),
        device="cpu",
    )


def figures(score):
    return score.accuracy, score.cross_entropy, score.images


def test_the_reference_of_the_dense_allocation_is_the_dense_network(task):
    reference = ReferenceProcedure(task)
    score = reference(task.problem.allocation(task.problem.dense_widths))
    assert figures(score) == figures(evaluate(task.model, task.data.search))


def test_the_reference_keeps_the_strongest_channels_and_solves_for_them(task):
    reference = ReferenceProcedure(task, rows=200)
    problem = task.problem
    widths = tuple(max(1, size // 2) for size in problem.dense_widths)
    reference(problem.allocation(widths))
    group = next(group for group in task.structure.groups if group.name == problem.decisions[0].name)
    cut = reference._cuts[group.name][0]
    dense = task.model.get_parameter(cut.tensor).detach()
    masked = reference._model.get_parameter(cut.tensor).detach()
    strength = dense.abs().sum((0, 2, 3))
    kept = strength.topk(widths[0]).indices
    gone = torch.ones(len(strength), dtype=torch.bool)
    gone[kept] = False
    assert masked.shape == dense.shape
    assert not masked[:, gone].any()
    assert masked[:, kept].flatten(1).any(1).all()
    samples = reference._samples[cut.layer]
    residual = samples.inputs @ masked.flatten(1).T.numpy() - samples.outputs
    columns = np.repeat((~gone).numpy(), masked[0, 0].numel())
    # The residual of a least-squares solution is orthogonal to what it was solved with.
    scale = np.abs(samples.inputs[:, columns].T) @ np.abs(residual)
    assert np.abs(samples.inputs[:, columns].T @ residual).max() < 1e-3 * scale.max()


def test_the_dense_reference_comes_back_after_an_episode(task):
    reference = ReferenceProcedure(task)
    dense = reference(task.problem.allocation(task.problem.dense_widths))
    reference(task.problem.allocation(task.problem.min_widths))
    assert figures(reference(task.problem.allocation(task.problem.dense_widths))) == figures(dense)


def test_command_writes_all_figures(tmp_path, capsys, monkeypatch):
    file = tmp_path / "new" / "bench.json"

    def deleting(report):
        shutil.rmtree(file.parent)  # its folder may go while hours are measured
        return speed_table(report)

    monkeypatch.setattr("amc.bench.speed_table", deleting)
    assert main(["bench", *QUICK, "--agent", "random", "--rounds", "2", "--json", str(file)]) == 0
    found = json.loads(file.read_text())
    split = found["search"]["split"]
    assert set(split) == {"forward", "recalibration", "assembly", "agent", "environment", "rest"}
    assert sum(split.values()) == pytest.approx(100)
    assert all(share > 0 for share in split.values())
    assert len(found["search"]["seconds"]) == len(found["reference"]["seconds"]) == 2
    assert found["ratio"] == pytest.approx(found["reference_seconds_per_episode"] / found["seconds_per_episode"])
    assert found["search"]["images"] == 60
    assert "reference takes" in capsys.readouterr().out


def test_curve_shows_a_row_for_every_network(tmp_path, capsys):
    file = tmp_path / "curve.json"
    command = ["bench", "--curve", "digits_resnet,digits_resnet", "--data.search_images", "20", "--rounds", "1"]
    assert main([*command, "--agent", "uniform", "--device", "cpu", "--dtype", "float32", "--json", str(file)]) == 0
    points = json.loads(file.read_text())["curve"]
    assert [point["model"] for point in points] == ["digits_resnet"] * 2
    assert points[0]["images"] == 20
    assert points[0]["picoseconds"] == pytest.approx(1e12 * points[0]["seconds"] / (20 * points[0]["flops"]))
    text = capsys.readouterr().out
    assert f"{points[0]['flops']:,}" in text
    assert "cpu, float32, 1 CPU thread, 1 round, processor time\n" in text
    assert points[0]["clock"] == "processor"


def test_names_in_the_curve_are_whole():
    name = "mobilenet_v3_large_100"
    point = CurvePoint(name, 160, 100, 10**11, 1e5, 100.0, 99.9, 1000.0, 3, "cpu", "float32", 2, "wall")
    text = render(curve_table([point, replace(point, threads=1, clock="processor")]), 100)
    assert text.count(name) == 2
    assert "2 CPU threads, 3 rounds, time on the clock; cpu, float32, 1 CPU thread" in " ".join(text.split())


def test_nothing_to_measure_is_refused():
    with pytest.raises(ConfigurationError, match="rounds and reference_rows must be at least 1"):
        BenchConfig(rounds=0)
