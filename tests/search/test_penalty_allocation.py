"""Channels that a penalty has driven to zero are cut: the network shrinks, and computes the same."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from amc.costs import Budget
from amc.data import DataConfig, load_data
from amc.pipeline.deliver import Workshop
from amc.pipeline.prepare import prepare
from amc.pipeline.recorder import Recorder
from amc.pipeline.search import SearchConfig, search_policy
from amc.pruning import PruningConfig
from amc.training import FineTuneConfig, TrainConfig, train_model


class Chain(nn.Module):
    """Two convolutions with batch norms, or without, and a head."""

    def __init__(self, *, norms):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.head = nn.Conv2d(1, 16, 3), nn.Conv2d(16, 16, 3), nn.Linear(16, 10)
        self.norm1, self.norm2 = (nn.BatchNorm2d(16) if norms else nn.Identity() for _ in range(2))

    def forward(self, x):
        x = self.norm1(self.first(x)).relu()
        return self.head(self.norm2(self.second(x)).relu().mean((2, 3)))


@pytest.fixture(scope="module")
def data():
    return load_data(DataConfig(train_images=200, search_images=60, test_images=60, calibration_images=40))


def found_by_the_penalty(model, data, budget=None):
    rules = PruningConfig(criterion="gates", recovery="none", recalibration_images=0, min_keep_ratio=0.0)
    task = prepare(model, data, budget, pruning=rules, finetune=FineTuneConfig(epochs=0), device="cpu", dtype="float32")
    shop = Workshop(task)
    config = SearchConfig(agent="penalty", episodes=1, reward="accuracy" if budget else "flops")
    outcome = search_policy(task.problem, shop.evaluator, config)
    return task, shop.deliver("penalty", outcome.best.allocation, Recorder())


@pytest.mark.parametrize("norms", [True, False])
@pytest.mark.parametrize("penalty", ["l0:strength=3;learning_rate=0.3", "sss:strength=2", "autopruner:keep_ratio=0.5"])
def test_the_network_shrinks_to_what_is_open_and_computes_the_same(penalty, norms, data):
    model = Chain(norms=norms)
    config = TrainConfig(epochs=4, batch_size=20, dtype="float32", learning_rate=0.05, penalties=(penalty,))
    train_model(model, data, config, device="cpu")
    layers = (model.norm1, model.norm2) if norms else (model.first, model.second)
    open_ones = (
        [int(layer.weight.flatten(1).any(1).sum()) for layer in layers]
        if not norms
        else [int(layer.weight.count_nonzero()) for layer in layers]
    )
    assert min(open_ones) < 16
    with torch.no_grad():
        before = model.eval()(data.test.inputs())
    task, delivered = found_by_the_penalty(model, data)
    kept = [delivered.model.first.out_channels, delivered.model.second.out_channels]
    assert kept == [max(1, count) for count in open_ones]
    assert delivered.costs["params"] < task.problem.dense_costs["params"]
    with torch.no_grad():
        assert torch.allclose(delivered.model(data.test.inputs()), before, atol=1e-4)


def test_a_budget_below_what_is_open_holds(data):
    model = Chain(norms=True)
    for norm in (model.norm1, model.norm2):
        with torch.no_grad():
            norm.weight[:4] = norm.bias[:4] = 0
    task, delivered = found_by_the_penalty(model, data, Budget(flops=0.3))
    assert delivered.costs["flops"] <= task.problem.limit


def test_closed_channels_come_back_where_a_budget_has_room_and_change_nothing(data):
    model = Chain(norms=True).eval()
    with torch.no_grad():
        for norm in (model.norm1, model.norm2):
            norm.weight[:4] = norm.bias[:4] = 0
        before = model(data.test.inputs())
        _, delivered = found_by_the_penalty(model, data, Budget(flops=0.9))
        assert min(delivered.model.first.out_channels, delivered.model.second.out_channels) >= 12
        assert torch.allclose(delivered.model(data.test.inputs()), before, atol=1e-4)
