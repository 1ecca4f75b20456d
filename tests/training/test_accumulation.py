"""Batches that are run in parts: one step each, with the gradients of the whole."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from amc.data import DataConfig, load_data
from amc.errors import CheckpointError, ConfigurationError
from amc.training import FineTuneConfig, TrainConfig, TrainingHooks, fine_tune

WHOLE = FineTuneConfig(
    epochs=2, batch_size=16, learning_rate=0.05, dtype="float32", keep="last", distillation=0.7, label_smoothing=0.1,
    penalties=("l1:strength=0.003",),
)  # fmt: skip


@pytest.fixture(scope="module")
def data():
    return load_data(DataConfig(train_images=96, search_images=32, calibration_images=20, test_images=40))


def plain(seed=0):
    """Returns a network without anything that depends on other images of the batch, or on chance."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 6, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(54, 10))


def trained(data, config, **options):
    model = plain()
    return model, fine_tune(model, data, config, teacher=plain(seed=5), seed=1, device="cpu", **options)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("parts", [2, 3, 16])
def test_parts_of_a_batch_end_where_the_whole_does(data, parts, optimizer):
    whole = replace(WHOLE, optimizer=optimizer, learning_rate=0.05 if optimizer == "sgd" else 0.003)
    one, expected = trained(data, whole)
    many, found = trained(data, replace(whole, accumulate=parts))
    for name, tensor in one.state_dict().items():
        torch.testing.assert_close(many.state_dict()[name], tensor, rtol=1e-4, atol=2e-5)
    assert [epoch.loss for epoch in found.epochs] == pytest.approx([epoch.loss for epoch in expected.epochs], rel=1e-4)
    assert not torch.allclose(one[0].weight, plain()[0].weight, atol=1e-3), "the training has moved the weights"


def test_no_more_images_than_a_part_has_are_run_at_once(data):
    sizes, model = [], plain()
    model.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])) if module.training else None)
    steps = []
    hooks = TrainingHooks(on_step=lambda progress: steps.append(progress.step))
    fine_tune(model, data, replace(WHOLE, epochs=1, accumulate=3), device="cpu", hooks=hooks)
    assert sizes == [6, 5, 5] * 4
    assert steps[-1] == 4, "a batch in parts is one step"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"accumulate": 0}, "accumulate must be at least 1, not 0"),
        ({"accumulate": 9, "batch_size": 8}, "accumulate must be from 1 to the batch_size of 8, not 9"),
    ],
)
@pytest.mark.parametrize("kind", [FineTuneConfig, TrainConfig])
def test_parts_that_cannot_be_are_refused(kind, settings, message):
    with pytest.raises(ConfigurationError, match=message):
        kind(**settings)


class Stopped(Exception):
    pass


def test_a_training_that_was_stopped_continues_in_the_same_parts(data, tmp_path):
    config = replace(WHOLE, accumulate=2)
    expected, _ = trained(data, config)

    def stop(record):
        raise Stopped

    with pytest.raises(Stopped):
        trained(data, config, checkpoint=tmp_path / "state.pt", hooks=TrainingHooks(on_epoch=stop))
    with pytest.raises(CheckpointError, match="accumulate"):
        trained(data, WHOLE, checkpoint=tmp_path / "state.pt")
    found, _ = trained(data, config, checkpoint=tmp_path / "state.pt")
    assert all(torch.equal(tensor, found.state_dict()[name]) for name, tensor in expected.state_dict().items())
