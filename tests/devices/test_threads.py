"""Threads are chosen by a measurement and given back; one seed gives one result on any number of them, if asked to."""

import json
from dataclasses import asdict, replace

import pytest
import torch
from torch import nn

import amc
from amc.errors import RunFolderError
from amc.pipeline.environment import Environment
from amc.pipeline.folder_recorder import FolderRecorder
from amc.pipeline.settling import settled, threads_for
from amc.runtime.threads import computing_with, fastest_threads

CPU = torch.device("cpu")


class Machine:
    """A machine on which a run takes `seconds[threads]`."""

    def __init__(self, seconds):
        self.seconds, self.now, self.runs = seconds, 0.0, 0

    def run(self):
        self.runs += 1
        self.now += self.seconds[torch.get_num_threads()]

    def clock(self):
        return self.now


@pytest.mark.parametrize(
    ("one", "two", "expected"), [(1.0, 0.6, 2), (1.0, 0.95, 1), (0.01, 0.3, 1), (0.0, 0.0, 1), (30.0, 16.0, 2)]
)
def test_the_faster_number_of_threads_is_taken(one, two, expected):
    machine = Machine({1: one, 2: two})
    with computing_with(2):
        assert fastest_threads(machine.run, clock=machine.clock) == expected
        assert torch.get_num_threads() == 2
    assert machine.runs <= 8


def test_with_one_thread_there_is_nothing_to_measure():
    with computing_with(1):
        assert fastest_threads(lambda: pytest.fail("measured")) == 1


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.Flatten(), nn.LazyLinear(4)).eval()


def test_small_images_take_one_thread_and_networks_elsewhere_none(monkeypatch):
    monkeypatch.setattr("amc.pipeline.settling.fastest_threads", lambda run: (run(), 7)[1])
    model = network()
    model(torch.zeros(1, 3, 20, 20))
    assert threads_for(model, torch.zeros(1, 3, 20, 20), CPU) == 7
    assert threads_for(model, torch.zeros(1, 3, 12, 12), CPU) == 1
    assert threads_for(model, torch.zeros(1, 3, 20, 20), torch.device("cuda")) is None
    assert threads_for(model, torch.zeros(1, 5, 20, 20), CPU) is None


class Kept(FolderRecorder):
    def begin(self):
        self.open()


@pytest.fixture
def example():
    model = network()
    model(torch.zeros(1, 3, 20, 20))
    return model, torch.zeros(1, 3, 20, 20), "cpu"


def test_a_run_keeps_to_the_threads_that_it_was_begun_with(tmp_path, example, monkeypatch):
    monkeypatch.setattr("amc.pipeline.settling.fastest_threads", lambda run: 2)
    for _ in range(2):
        recorder = Kept(tmp_path)
        with settled(recorder, *example):
            assert torch.get_num_threads() == 2
        recorder.close()
        assert torch.get_num_threads() == 1
        monkeypatch.setattr("amc.pipeline.settling.fastest_threads", lambda run: pytest.fail("measured again"))
    record = json.loads((tmp_path / "environment.json").read_text())
    assert (record["device"], record["threads"]) == ("cpu", 2)
    assert record["versions"]["torch"] == torch.__version__.partition("+")[0] or "torch" in record["versions"]


def test_the_processor_is_recorded_and_compared_where_it_is_known():
    here = Environment.here(CPU, 1)
    assert here.processor.endswith(f"({torch.backends.cpu.get_cpu_capability()})")
    other, earlier = replace(here, processor="Another (DEFAULT)"), replace(here, processor="")
    assert other.differences(here) == [f"processor Another (DEFAULT), not {here.processor}"]
    assert earlier.differences(here) == here.differences(earlier) == []


def begun_elsewhere(path, episodes):
    record = asdict(Environment.here(CPU, 1))
    record["versions"]["torch"] = "1.0"
    (path / "environment.json").write_text(json.dumps(record))
    recorder = Kept(path)
    recorder.said = []
    recorder.say = recorder.said.append
    recorder.recorded_episodes = lambda: episodes
    return recorder


def test_scores_of_two_environments_are_not_mixed_unless_that_is_asked_for(tmp_path, example):
    recorder = begun_elsewhere(tmp_path, ["episode"])
    with pytest.raises(RunFolderError, match=r"begun with torch 1\.0, not .*may differ.*--mix_scores"):
        settled(recorder, *example).__enter__()
    recorder.may_mix_scores = True
    with settled(recorder, *example):
        assert "the run was begun with torch 1.0, not" in recorder.said[0]
    recorder.close()


def test_without_scores_a_difference_is_said(tmp_path, example):
    recorder = begun_elsewhere(tmp_path, [])
    with settled(recorder, *example):
        assert "the run was begun with torch 1.0, not" in recorder.said[0]
    recorder.close()


@pytest.mark.heavy
def test_a_deterministic_run_is_the_same_on_any_number_of_threads():
    generator = torch.Generator().manual_seed(0)
    data = (torch.rand(80, 3, 20, 20, generator=generator), torch.arange(80) % 4)
    options = {"agent": "random", "episodes": 3, "finetune": amc.FineTuneConfig(epochs=1, batch_size=20)}
    options["search"] = amc.SearchConfig(deterministic=True, untrained=True)
    results = []
    for threads in (1, 2):
        with computing_with(threads):
            model = network()
            model(torch.zeros(1, 3, 20, 20))
            results.append(amc.compress(model, (data, data), device="cpu", **options))
            assert torch.get_num_threads() == threads
            assert not torch.are_deterministic_algorithms_enabled()
    first, second = (result.model.state_dict() for result in results)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert [e.reward for e in results[0].episodes] == [e.reward for e in results[1].episodes]
