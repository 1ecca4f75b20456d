"""Handing a network over: it is that of the allocation asked for, whatever was stopped before."""

from __future__ import annotations

import json

import pytest

from amc.pipeline.compare import compare
from amc.pipeline.recorder import Recorder
from amc.pipeline.search import SearchConfig
from amc.structure import Allocation


class Checkpointed(Recorder):
    """Keeps the states of trainings in a folder."""

    def __init__(self, folder):
        self.folder = folder

    def checkpoint(self, name):
        return self.folder / f"{name}.pt"


def test_a_stopped_fine_tuning_is_not_gone_on_with_for_another_allocation(weight_workshop, tmp_path):
    problem, recorder = weight_workshop.task.problem, Checkpointed(tmp_path)
    layers = [decision.name for decision in problem.decisions]
    first, second = (Allocation("weight", dict.fromkeys(layers, count)) for count in (60, 90))
    for allocation in (first, second, first):
        delivered = weight_workshop.deliver("ddpg", allocation, recorder)
        counts = {
            name: int(weight.count_nonzero()) for name, weight in delivered.model.named_parameters() if weight.dim() > 1
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


def test_a_compared_agent_does_not_search_again_after_its_fine_tuning_was_stopped(weight_workshop, monkeypatch):
    problem, recorder, scored = weight_workshop.task.problem, Remembering(), []
    evaluator = weight_workshop.evaluator
    score = evaluator.score
    monkeypatch.setattr(evaluator, "score", lambda allocation: scored.append(allocation) or score(allocation))

    def stop(*arguments):
        raise KeyboardInterrupt

    config = SearchConfig("ddpg", episodes=3)
    with monkeypatch.context() as stopped:
        stopped.setattr(weight_workshop, "deliver", stop)
        with pytest.raises(KeyboardInterrupt):
            compare(weight_workshop, problem, ["random"], config, recorder)
    assert len(scored) == 3
    found = compare(weight_workshop, problem, ["random"], config, recorder)
    assert len(scored) == 3
    fresh = compare(weight_workshop, problem, ["random"], config, Recorder())
    assert found == fresh
    assert found["random"]["episodes"] == 3
