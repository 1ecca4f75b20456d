"""Penalties and frozen layers as a run meets them: what the network has nothing for is said before any work."""

from __future__ import annotations

import copy

import pytest
import torch

from amc.costs import Budget
from amc.data import DataConfig, load_data
from amc.errors import ConfigurationError
from amc.models import create_model
from amc.pipeline.prepare import prepare
from amc.pruning import PruningConfig
from amc.training import FineTuneConfig, TrainConfig
from amc.training.penalties.registry import PENALTIES

NONE = "the penalty needs batch norms with scales, and the network has none; choose another, such as l1, or leave"


@pytest.fixture(scope="module")
def data():
    return load_data(DataConfig(train_images=60, search_images=20, test_images=20, calibration_images=20))


def prepared(data, model="digits_lenet", **options):
    return prepare(
        create_model(model, seed=0) if isinstance(model, str) else model,
        data,
        Budget(flops=0.5),
        pruning=PruningConfig(criterion="l2", recovery="none"),
        device="cpu",
        dtype="float32",
        **{"finetune": FineTuneConfig(epochs=1), **options},
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"finetune": FineTuneConfig(epochs=1, keep="last", penalties=("slimming",))}, NONE),
        ({"train": TrainConfig(epochs=1, penalties=("slimming",))}, NONE),
        ({"schedule": "lr_rewinding", "retrain": TrainConfig(epochs=1, penalties=("slimming",))}, NONE),
        ({"finetune": FineTuneConfig(epochs=1, freeze="linear")}, "freeze linear leaves nothing to train .* or none"),
        (
            {"finetune": FineTuneConfig(epochs=1, dropout="pruned")},
            "dropout pruned needs a dropout layer .* choose same",
        ),
        (
            {
                "model": "digits_resnet",
                "finetune": FineTuneConfig(epochs=1, keep="last", penalties=("l0:layers=[bdy]",)),
            },
            "batch norms with scales whose names match bdy, among bn1, .*; correct its option 'layers'",
        ),
    ],
)
def test_what_the_network_lacks_is_told_before_work_starts(options, message, data):
    with pytest.raises(ConfigurationError, match=message):
        prepared(data, **options)


def test_trainings_that_are_not_due_need_nothing(data):
    prepared(data, finetune=FineTuneConfig(epochs=0, keep="last", penalties=("slimming",)))
    prepared(data, schedule="scratch", finetune=FineTuneConfig(epochs=1, freeze="linear"))
    prepared(data, retrain=TrainConfig(epochs=1, penalties=("slimming",)))


def test_trying_leaves_the_network_as_it_was(data):
    model = create_model("digits_resnet", seed=0)
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    config = FineTuneConfig(epochs=1, keep="last", penalties=tuple(PENALTIES.names()), freeze="linear")
    task = prepared(data, model, finetune=config)
    assert all(torch.equal(before[name], value) for name, value in task.model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in task.model.modules())
    assert all(parameter.requires_grad for parameter in task.model.parameters())
    assert torch.equal(torch.get_rng_state(), state)
