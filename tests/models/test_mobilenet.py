"""MobileNet V1, against the counts of the paper and of other implementations, and under the contracts."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from amc.costs.counting import count_flops
from amc.models import create_model
from amc.tracing.trace import trace_structure
from amc.zoo.cases import cuts_of, open_case
from amc.zoo.contracts import CONTRACTS


def convolutions(model):
    return [module for module in model.modules() if isinstance(module, nn.Conv2d)]


def test_parameters_are_those_of_the_published_network():
    assert sum(parameter.numel() for parameter in create_model("mobilenet_v1").parameters()) == 4_231_976


def test_multiply_adds_are_the_papers_569_million():
    model = create_model("mobilenet_v1")
    for module in list(model.modules()):  # fvcore counts batch norms too, two FLOPs a number; the paper does not
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.Identity())
    assert count_flops(model, torch.zeros(1, 3, 224, 224)) == 568_740_352


def test_blocks_separate_depthwise_and_pointwise_convolutions():
    found = convolutions(create_model("mobilenet_v1", num_classes=2))
    assert [layer.groups == layer.in_channels for layer in found[1:]] == [True, False] * 13
    assert [layer.stride[0] for layer in found[1::2]] == [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1]
    assert found[0].stride == (2, 2)


@pytest.mark.parametrize("size", [32, 65])
def test_smaller_images_of_other_channels_will_do(size):
    model = create_model("mobilenet_v1", num_classes=4, in_channels=1)
    model(torch.randn(2, 1, size, size)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_every_width_but_the_classes_can_be_cut():
    model, image = create_model("mobilenet_v1", num_classes=5, seed=0), torch.zeros(1, 3, 64, 64)
    structure = trace_structure(model, image)
    prunable = [group.channels for group in structure.groups if group.prunable]
    assert prunable == [layer.out_channels for layer in convolutions(model)[0::2]]
    assert structure.dense_flops == count_flops(model, image)


def test_it_holds_the_contracts_of_networks_that_are_cut():
    for cut in cuts_of(open_case("mobilenet_v1", image_size=64), rules=["random"]):
        for name in ("budget", "costs", "candidate", "training", "loading"):
            CONTRACTS[name](cut)
