"""The networks of the CIFAR family, against counts and forms known from the papers and public checkpoints."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from amc.costs.counting import count_flops
from amc.models import create_model
from amc.models.cifar_resnet import PaddedShortcut


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("resnet20", 269_722), ("resnet56", 853_018), ("resnet110", 1_727_962), ("plain20", 269_722)],
)
def test_parameters_are_those_of_the_published_networks(name, parameters):
    assert sum(parameter.numel() for parameter in create_model(name).parameters()) == parameters


def test_resnet56_has_the_flops_that_fvcore_counts_on_the_public_one():
    assert count_flops(create_model("resnet56"), torch.zeros(1, 3, 32, 32)) == 126_550_656


def test_names_are_those_of_the_public_checkpoints():
    keys = [key for key in create_model("resnet20").state_dict() if key.endswith("weight")]
    blocks = [
        f"layer{stage}.{index}.{part}.weight"
        for stage in (1, 2, 3)
        for index in range(3)
        for part in ("conv1", "bn1", "conv2", "bn2")
    ]
    assert keys == ["conv1.weight", "bn1.weight", *blocks, "linear.weight"]


def test_plain_networks_have_the_names_of_residual_ones():
    assert list(create_model("plain32").state_dict()) == list(create_model("resnet32").state_dict())


def test_padded_shortcut_strides_and_centres_the_channels():
    x = torch.randn(2, 16, 8, 8)
    y = PaddedShortcut(16, 32, stride=2)(x)
    expected = torch.zeros(2, 32, 4, 4)
    expected[:, 8:24] = x[:, :, ::2, ::2]
    assert torch.equal(y, expected)


def test_residual_block_adds_its_input():
    block = create_model("resnet20").layer1[0].eval()
    torch.nn.init.zeros_(block.conv2.weight)
    x = torch.randn(1, 16, 4, 4)
    assert torch.equal(block(x), functional.relu(x))


def test_plain_block_does_not():
    block = create_model("plain20").layer1[0].eval()
    torch.nn.init.zeros_(block.conv2.weight)
    assert not block(torch.randn(1, 16, 4, 4)).any()


@pytest.mark.parametrize("name", ["vgg16_cifar", "mobilenet_cifar"])
def test_convolutional_chains_learn_from_every_parameter(name):
    model = create_model(name, num_classes=4, in_channels=1)
    model(torch.randn(2, 1, 32, 32)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_mobilenet_separates_depthwise_and_pointwise_convolutions():
    convolutions = [m for m in create_model("mobilenet_cifar").modules() if isinstance(m, torch.nn.Conv2d)]
    assert [c.groups == c.in_channels for c in convolutions[1:]] == [True, False] * 13
