"""Handing a network over: it is that of the allocation asked for, whatever was stopped before."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import pytest
import torch

import amc
from amc.costs.counting import count_flops
from amc.errors import RunFolderError
from amc.pipeline.compare import compare
from amc.pipeline.recorder import Recorder
from amc.pipeline.rounds import carry_out
from amc.pipeline.search import SearchConfig
from amc.storage.architecture import describe
from amc.storage.save import save_network
from amc.storage.source import ModelSource
from amc.structure import Allocation
from amc.training import FineTuneConfig


class Checkpointed(Recorder):
    """Keeps the states of trainings in a folder."""

    def __init__(self, folder):
        self.folder = folder

    def checkpoint(self, name):
        return self.folder / f"{name}.pt"


@pytest.mark.heavy
def test_a_stopped_fine_tuning_is_not_gone_on_with_for_another_allocation(weight_workshop, tmp_path):
    problem, recorder = weight_workshop.task.problem, Checkpointed(tmp_path)
    layers = [decision.name for decision in problem.decisions]
    first, second = (Allocation("weight", dict.fromkeys(layers, count)) for count in (60, 90))
    for allocation in (first, second, first):
        carried = carry_out(weight_workshop.task, weight_workshop.family, "ddpg", allocation, recorder)
        counts = {
            name: int(weight.count_nonzero())
            for name, weight in carried.finished.named_parameters()
            if weight.dim() > 1
        }
        assert all(counts[f"{layer}.weight"] == allocation.widths[layer] for layer in layers)
    assert len(list(tmp_path.iterdir())) == 2


class Remembering(Recorder):
    """Keeps the records of finished stages."""

    def __init__(self):
        self.records = {}

    def recall(self, name):
        return self.records.get(name)

    def remember(self, name, record):
        self.records[name] = json.loads(json.dumps(record))


def test_a_compared_agent_does_not_search_again_after_its_fine_tuning_was_stopped(workshop, monkeypatch):
    problem, recorder, scored = workshop.task.problem, Remembering(), []
    evaluator = workshop.evaluator
    score = evaluator.score
    monkeypatch.setattr(evaluator, "score", lambda allocation: scored.append(allocation) or score(allocation))

    def stop(*arguments):
        raise KeyboardInterrupt

    config = SearchConfig("ddpg", episodes=3)
    with monkeypatch.context() as stopped:
        stopped.setattr(workshop, "deliver", stop)
        with pytest.raises(KeyboardInterrupt):
            compare(workshop, problem, ["random"], config, recorder)
    assert len(scored) == 3
    found = compare(workshop, problem, ["random"], config, recorder)
    assert len(scored) == 3
    fresh = compare(workshop, problem, ["random"], config, Recorder())
    assert found == fresh
    assert found["random"]["episodes"] == 3
    whole = recorder.records["baseline random"]
    recorder.records["baseline random"] = {**whole, "notes": 7}
    with pytest.raises(RunFolderError, match="the record 'baseline random' of the run is damaged"):
        compare(workshop, problem, ["random"], config, recorder)
    recorder.records["baseline random"] = {**whole, "costs": {}}
    with pytest.raises(RunFolderError, match="'baseline random' of the run is damaged: it must have the costs flops"):
        compare(workshop, problem, ["random"], config, recorder)


RUIN = FineTuneConfig(epochs=1, batch_size=64, learning_rate=3.0, warmup=0.0)


def test_what_is_delivered_is_no_worse_than_the_pruned_network_and_says_so(workshop, monkeypatch):
    monkeypatch.setattr(workshop, "task", replace(workshop.task, finetune=RUIN))
    problem = workshop.task.problem
    delivered = workshop.deliver(
        "ddpg", problem.allocation(problem.project([0.6] * len(problem.decisions))), Recorder()
    )
    assert delivered.finetuned == delivered.pruned > 20
    assert delivered.notes == ("the network before fine-tuning is kept: no epoch was better on the search split",)
    assert delivered.figures()["notes"] == list(delivered.notes)


def test_a_warning_of_the_fine_tuning_is_noted(workshop, monkeypatch):
    monkeypatch.setattr(workshop, "task", replace(workshop.task, finetune=replace(RUIN, keep="last")))
    problem = workshop.task.problem
    allocation = problem.allocation(problem.project([0.6] * len(problem.decisions)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert workshop.deliver("ddpg", allocation, Recorder()).notes
    with pytest.warns(RuntimeWarning, match="made the network worse"):
        delivered = workshop.deliver("ddpg", allocation, Recorder())
    assert delivered.notes[0].startswith("training made the network worse")


def test_a_delivered_network_has_no_dead_channels_and_comes_back_from_its_file(weight_workshop, tmp_path):
    task = weight_workshop.task
    layers = [decision.name for decision in task.problem.decisions]
    few = Allocation("weight", dict.fromkeys(layers, 40))
    delivered = weight_workshop.deliver("uniform", few, Recorder())
    assert delivered.kept
    (note,) = [note for note in delivered.notes if "dead channels were removed" in note]
    assert (
        f"{count_flops(delivered.model, task.example_input):,} of {task.problem.dense_costs['flops']:,} FLOPs" in note
    )
    predicted = task.problem.costs_of(task.problem.widths(few))
    assert delivered.costs["params"] == sum(int(weight.count_nonzero()) for weight in weights_of(delivered.model))
    assert all(delivered.costs[metric] < predicted[metric] for metric in ("flops", "params", "size_bytes"))
    source = ModelSource("name", "digits_resnet")
    save_network(tmp_path, delivered.model, describe(task.model, task.structure, delivered.kept, source))
    assert (tmp_path / "model.safetensors").stat().st_size <= delivered.costs["size_bytes"]
    loaded, images = amc.load(tmp_path), task.data.test.inputs()
    with torch.no_grad():
        assert torch.equal(loaded(images), delivered.model(images))


def weights_of(model):
    """Yields the weights, and what else counts in full with a value of its own."""
    for parameter in model.parameters():
        yield parameter if parameter.dim() > 1 else torch.ones(parameter.shape)
