"""Retraining as Han et al. do: frozen layers stay, and dropout goes down with the weights."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from amc.data import DataConfig, load_data
from amc.errors import ConfigurationError
from amc.models import create_model
from amc.training import FineTuneConfig, fine_tune
from amc.training.retraining import PrunedDropout, pruned_ratio
from amc.training.terms import Training

QUICK = {"epochs": 1, "batch_size": 20, "dtype": "float32", "keep": "last", "learning_rate": 0.05}


@pytest.fixture(scope="module")
def data():
    return load_data(DataConfig(train_images=60, search_images=20, test_images=20, calibration_images=20))


@pytest.mark.parametrize(("freeze", "linear_moves"), [("convolutions", True), ("linear", False)])
def test_what_is_frozen_stays_to_the_bit_and_the_rest_moves(freeze, linear_moves, data):
    model = create_model("digits_resnet", seed=0)
    before = copy.deepcopy(model.state_dict())
    fine_tune(model, data, FineTuneConfig(freeze=freeze, **QUICK), device="cpu")
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert ("linear.weight" in moved) == linear_moves
    assert ("conv1.weight" in moved) != linear_moves
    assert ("bn1.running_mean" in moved) != linear_moves
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_freezing_all_there_is_is_refused(data):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with pytest.raises(ConfigurationError, match=r"finetune\.freeze linear leaves nothing to train"):
        fine_tune(model, data, FineTuneConfig(freeze="linear", **QUICK), device="cpu")
    assert all(parameter.requires_grad for parameter in model.parameters())
    with pytest.raises(ConfigurationError, match="did you mean 'convolutions'"):
        FineTuneConfig(freeze="convolution")


def test_the_ratio_by_hand():
    """Half of the neurons, a quarter of the connections: a quarter (Eq. 2)."""
    assert pruned_ratio(0.5, 250, 1000) == 0.25


def test_dropout_follows_the_layer_behind_it_and_comes_back():
    dense = create_model("digits_lenet", seed=0, dropout=0.5)
    model = copy.deepcopy(dense)
    with torch.no_grad():
        model.fc3.weight[:, 25:] = 0  # a quarter of a hundred stays
    term = PrunedDropout(dense)
    term.attach(Training(model, torch.optim.SGD(model.parameters(), lr=0.1), 1, 1, 1, torch.zeros(1, 1, 8, 8)))
    assert (model.drop1.p, model.drop2.p) == (0.5, 0.25)
    term.detach()
    assert (model.drop1.p, model.drop2.p) == (0.5, 0.5)


def test_without_the_dense_network_a_layers_zeros_tell():
    model = nn.Sequential(nn.Dropout(0.4), nn.Linear(4, 4), nn.Dropout(0.2), nn.Linear(4, 1))
    with torch.no_grad():
        model[1].weight[:3] = 0
        model[3].weight[:] = 1
    term = PrunedDropout(None)
    term.attach(Training(model, torch.optim.SGD(model.parameters(), lr=0.1), 1, 1, 1, torch.zeros(1, 4)))
    assert (model[0].p, model[2].p) == (0.2, 0.2)


def test_dropout_is_lowered_in_a_training_and_not_after_it(data):
    model = create_model("digits_lenet", seed=0, dropout=0.5)
    seen = []
    model.drop2.register_forward_pre_hook(lambda module, inputs: seen.append((module.training, module.p)))
    with torch.no_grad():
        model.fc3.weight[:, 25:] = 0
    fine_tune(model, data, FineTuneConfig(dropout="pruned", **QUICK), device="cpu")
    assert {p for training, p in seen if training} == {0.25}
    assert model.drop2.p == 0.5
