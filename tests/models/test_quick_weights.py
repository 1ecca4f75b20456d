"""Random weights in a hurry: the same shapes and scales, without the time."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from amc.models import create_model
from amc.models.quick_weights import QuickWeights
from amc.tracing.trace import trace_structure


@pytest.mark.parametrize("fill", [lambda tensor: tensor.normal_(0.5, 2.0), lambda tensor: tensor.uniform_(-1.0, 2.0)])
def test_large_tensors_keep_their_distribution(fill):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        plain = fill(torch.empty(1500, 1600))
        with QuickWeights():
            quick = fill(torch.empty(1500, 1600))
    assert quick.shape == plain.shape
    assert abs(float(quick.mean() - plain.mean())) < 0.01
    assert abs(float(quick.std() / plain.std()) - 1) < 0.01
    assert abs(float(quick.max() - plain.max())) < 1
    assert torch.isfinite(quick).all()


def test_no_two_rows_or_columns_are_alike():
    with torch.random.fork_rng(devices=[]), QuickWeights():
        torch.manual_seed(0)
        weight = nn.Linear(2048, 2048).weight.detach()
    assert len(weight.unique(dim=0)) == 2048
    assert len(weight.unique(dim=1)[0]) == 2048


def test_small_tensors_are_drawn_as_ever():
    plain = create_model("digits_resnet", seed=3).state_dict()
    with QuickWeights():
        quick = create_model("digits_resnet", seed=3).state_dict()
    assert all(torch.equal(plain[name], quick[name]) for name in plain)


def test_the_structure_is_that_of_the_network_with_true_random_weights():
    image = torch.zeros(1, 3, 224, 224)
    with QuickWeights():
        quick = create_model("alexnet", seed=0)
    assert trace_structure(quick, image) == trace_structure(create_model("alexnet", seed=0), image)
