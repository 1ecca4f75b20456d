"""Distillation of features: which are compared, how far apart they are, and that training brings them together."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from amc.data import DataConfig, load_data
from amc.training import FineTuneConfig, fine_tune
from amc.training.features import FeatureDistillation, _spread

IMAGES = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))


class Residual(nn.Module):
    """Blocks that write into a stream of 8 channels; what is between their two layers may be narrower."""

    def __init__(self, width, blocks=3, stream=8):
        super().__init__()
        self.stem, self.head = nn.Conv2d(1, stream, 3, padding=1), nn.Linear(stream, 10)
        self.first = nn.ModuleList(nn.Conv2d(stream, width, 3, padding=1) for _ in range(blocks))
        self.second = nn.ModuleList(nn.Conv2d(width, stream, 3, padding=1) for _ in range(blocks))

    def forward(self, x):
        x = self.stem(x)
        for first, second in zip(self.first, self.second, strict=True):
            x = x + second(first(x).relu())
        return self.head(x.mean((2, 3)))


def networks(width=3, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Residual(width, **options), Residual(6, **options)


def test_streams_are_compared_and_neither_the_images_nor_what_was_cut():
    assert FeatureDistillation(*networks(), IMAGES).names == ("first.0", "first.1", "first.2", "head")


def test_a_few_features_of_each_shape_do():
    assert FeatureDistillation(*networks(blocks=9), IMAGES).names == (
        "first.1",
        "first.3",
        "first.5",
        "first.8",
        "head",
    )


@given(st.integers(1, 60))
def test_the_features_of_a_shape_are_evenly_spread_up_to_the_last(count):
    names = [str(index) for index in range(count)]
    chosen = _spread(names)
    positions = [-1, *map(int, chosen)]
    assert chosen[-1] == names[-1]
    assert len(chosen) == min(4, count)
    steps = [after - before for before, after in itertools.pairwise(positions)]
    assert max(steps) - min(steps) <= 1


def test_the_loss_is_the_mean_relative_error():
    model, teacher = (nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2), nn.Linear(2, 5)) for _ in range(2))
    inputs = torch.randn(6, 3)
    features = FeatureDistillation(model, teacher, inputs)
    assert features.names == ("1", "2")
    with features.watching():
        model(inputs), teacher(inputs)
    loss = features.loss()
    with torch.no_grad():
        pairs = [(model[:end](inputs), teacher[:end](inputs)) for end in (1, 2)]
    expected = sum(float((ours - theirs).norm() ** 2 / theirs.norm() ** 2) for ours, theirs in pairs) / 2
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert model[0].weight.grad is not None
    assert teacher[0].weight.grad is None


def test_equal_networks_have_no_loss_and_no_hooks_stay():
    model, _ = networks()
    features = FeatureDistillation(model, copy.deepcopy(model), IMAGES)
    with features.watching():
        copied = features._networks[1]["head"]
        assert copied._forward_pre_hooks
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert not copied._forward_pre_hooks


def test_networks_without_a_common_feature_have_no_loss():
    model, teacher = (
        nn.Sequential(nn.Linear(64, 3), nn.Linear(3, 10)),
        nn.Sequential(nn.Linear(64, 5), nn.Linear(5, 10)),
    )
    features = FeatureDistillation(model, teacher, IMAGES.flatten(1))
    assert features.names == ()
    with features.watching():
        model(IMAGES.flatten(1)), teacher(IMAGES.flatten(1))
    assert float(features.loss()) == 0


class SkippingBlocks(Residual):
    """Leaves out its blocks but the first while it trains."""

    def forward(self, x):
        x = self.stem(x)
        blocks = list(zip(self.first, self.second, strict=True))
        for first, second in blocks[:1] if self.training else blocks:
            x = x + second(first(x).relu())
        return self.head(x.mean((2, 3)))


def test_features_that_are_left_out_in_training_do_not_count():
    model, teacher = SkippingBlocks(3), SkippingBlocks(6).eval()
    features = FeatureDistillation(model, teacher, IMAGES)
    assert features.names == ("first.0", "first.1", "first.2", "head")
    with features.watching():
        model(IMAGES), teacher(IMAGES)
    assert float(features.loss().detach()) > 0


@pytest.fixture(scope="module")
def data():
    return load_data(DataConfig(train_images=200, test_images=50))


@pytest.mark.parametrize("distillation", [0.0, 0.5])
def test_training_brings_the_features_together(data, distillation):
    def distance_after(weight):
        model, teacher = networks()
        options = FineTuneConfig(epochs=3, batch_size=20, learning_rate=0.01, dtype="float32")
        config = replace(options, distillation=distillation, feature_distillation=weight)
        fine_tune(model, data, config, teacher=teacher, device="cpu")
        features, images = FeatureDistillation(model, teacher, IMAGES), data.search.inputs()
        with torch.no_grad(), features.watching():
            model(images), teacher(images)
        return float(features.loss())

    assert distance_after(2.0) < distance_after(0.0) / 2


def test_narrow_networks_of_nothing_in_common_are_trained_by_labels_and_outputs(data):
    def plain(width):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))

    config = FineTuneConfig(epochs=6, batch_size=20, learning_rate=0.05, dtype="float32", feature_distillation=5.0)
    result = fine_tune(plain(20), data, config, teacher=plain(30), device="cpu")
    assert result.epochs[-1].loss < result.epochs[0].loss
