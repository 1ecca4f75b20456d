"""Handing a network over: it is that of the allocation asked for, whatever was stopped before."""

from __future__ import annotations

from amc.recorder import Recorder
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
