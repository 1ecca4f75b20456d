"""Parts of a network that are shared or used in ways of their own: what is found costs and computes right."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

IMAGE = torch.rand(1, 3, 10, 10, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """A stem of 8 channels, what a test gives, a convolution to 12 channels, and a head."""

    def __init__(self, between, into=8, **parts):
        super().__init__()
        self.stem, self.next, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(into, 12, 3), nn.Linear(12, 4)
        self.between = between
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.head(self.next(self.between(self, self.stem(x).relu())).relu().mean((2, 3)))


def width_of_another(net, x):
    query, value = net.query(x), net.value(x)
    n, channels, height, width = query.shape
    return value.reshape(n, channels, height * width).reshape(n, channels, height, width)


def test_code_that_takes_the_width_of_an_equally_wide_group_is_left_alone(tools):
    net = Net(width_of_another, into=12, query=nn.Conv2d(8, 12, 1), value=nn.Conv2d(8, 12, 1))
    structure, _ = tools.traced(net, IMAGE)
    reasons = {group.name: group.reason for group in structure.groups}
    assert "counts on its width" in reasons["query"]
    assert "counts on its width" in reasons["value"]
    assert reasons["stem"] is None


def shared_norm(net, x):
    x = net.norm(net.wide(x)).relu()
    return net.norm(net.other(x) + x)


def test_a_norm_that_runs_twice_belongs_to_no_layer(tools):
    parts = {"wide": nn.Conv2d(8, 12, 1), "other": nn.Conv2d(12, 12, 1), "norm": nn.BatchNorm2d(12)}
    structure, _ = tools.traced(Net(shared_norm, into=12, **parts), IMAGE)
    assert {layer.batch_norm for layer in structure.layers} == {None}


WAYS = {
    "depthwise transposed": Net(
        lambda net, x: net.up(x), up=nn.ConvTranspose2d(8, 8, 4, stride=2, padding=1, groups=8)
    ),
    "last filters": Net(
        lambda net, x: functional.conv2d(x, net.filters[-4:]), 4, filters=nn.Parameter(torch.rand(12, 8, 1, 1))
    ),
    "cropped channels": Net(lambda net, x: functional.pad(x, (0, 0, 0, 0, -1, -1)), 6),
    "cropped and padded": Net(lambda net, x: functional.pad(x, (0, 0, 0, 0, -1, 2)), 9),
    "instance norm with statistics": Net(
        lambda net, x: net.norm(x), norm=nn.InstanceNorm2d(8, affine=True, track_running_stats=True)
    ),
    "instance norm": Net(lambda net, x: net.norm(x), norm=nn.InstanceNorm2d(8, affine=True)),
    "first and last channels": Net(lambda net, x: x[:, :4] * x[:, -4:], 4),
}


@pytest.mark.parametrize("net", WAYS.values(), ids=WAYS.keys())
def test_costs_are_those_of_the_cut_network(tools, net):
    tools.traced(net, IMAGE)  # compares the prediction with fvcore's count, dense and cut


class Shared(nn.Module):
    """Scales by one buffer in two modules; calls its layers by name."""

    def __init__(self):
        super().__init__()
        self.stem, self.next, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 12, 3), nn.Linear(12, 4)
        self.norm, self.shift = nn.BatchNorm2d(8), nn.Identity()
        self.register_buffer("scale", torch.rand(8, 1, 1))
        self.shift.register_buffer("scale", self.scale)

    def forward(self, x):
        x = self.norm(input=self.stem(input=x)) * self.scale + self.shift.scale
        return self.head(input=self.next(input=x).mean((2, 3)))


def test_a_shared_buffer_and_layers_called_by_name_go_through_the_whole_job():
    import amc

    images = torch.rand(60, 3, 10, 10, generator=torch.Generator().manual_seed(1))
    data = (images, torch.arange(60) % 4)
    options = {"search": amc.SearchConfig(agent="uniform", untrained=True), "finetune": amc.FineTuneConfig(epochs=0)}
    options |= {"device": "cpu", "pruning": amc.PruningConfig(residual=True)}  # what is summed counts as a stream
    result = amc.compress(Shared(), (data, data), amc.Budget(flops=0.6), **options)
    assert result.model.scale is result.model.shift.scale
    assert len(result.model.scale) == result.model.stem.out_channels < 8


def ramped(net, x):
    return x * torch.linspace(0.0, 1.0, x.shape[1]).view(1, -1, 1, 1)


def numbered(net, x):
    return x + torch.arange(x.shape[1])[:, None, None]


@pytest.mark.parametrize("by_place", [ramped, numbered])
def test_code_that_tells_normalised_channels_apart_by_their_place_is_left_alone(tools, by_place):
    net = Net(lambda net, x: by_place(net, net.norm(x)), norm=nn.GroupNorm(1, 8))
    structure, _ = tools.traced(net, IMAGE)
    assert tools.reasons_of(structure)["stem"] == "the network computes something else when its channels change places"
    assert "next" not in tools.reasons_of(structure)


def test_a_scale_of_every_normalised_channel_goes_along(tools):
    scale = nn.Parameter(torch.linspace(0.0, 1.0, 8).view(1, 8, 1, 1))
    net = Net(lambda net, x: net.norm(x) * net.scale, norm=nn.GroupNorm(1, 8), scale=scale)
    structure, small = tools.traced(net, IMAGE)
    assert tools.reasons_of(structure).keys() == {"head"}
    assert small.scale.shape[1] == small.stem.out_channels
