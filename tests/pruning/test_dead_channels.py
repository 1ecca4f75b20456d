"""Dead channels go, and the outputs stay."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import amc
from amc.costs.counting import count_flops
from amc.pruning.dead_channels import without_dead_channels
from amc.tracing.trace import trace_structure


def smaller(case, images=None):
    found, kept = without_dead_channels(case.model, case.structure, case.images if images is None else images)
    with torch.no_grad():
        torch.testing.assert_close(found(case.images), case.model(case.images), rtol=1e-4, atol=1e-4)
    return found, {case.structure.groups[index].name: channels.tolist() for index, channels in kept.items()}


def all_but(channels, *gone):
    return [channel for channel in range(channels) if channel not in gone]


def test_without_dead_channels_the_network_is_the_same_object(net):
    assert without_dead_channels(net.model, net.structure, net.images) == (net.model, {})


@torch.no_grad()
def test_a_channel_that_nothing_reads_goes_whatever_it_is(net):
    net.model.block1.conv2.weight[:, 2] = 0.0
    found, kept = smaller(net)
    assert kept == {"block1.conv1": all_but(8, 2)}
    assert found.block1.conv1.weight.shape[0] == found.block1.bn1.num_features == 7
    assert net.model.block1.conv1.weight.shape[0] == 8


@torch.no_grad()
def test_a_channel_that_nothing_writes_goes_where_its_constant_is_zero_or_can_be_moved(net):
    for block, shift in ((net.model.block1, -50.0), (net.model.block2, 50.0)):
        block.conv1.weight[3] = 0.0
        block.bn1.bias[3] = shift  # behind the activation: 0, and a constant that zeros around the input interrupt
    net.model.expand.weight[1] = 0.0
    net.model.expand.bias[1] = 2.0
    found, kept = smaller(net)
    assert kept == {"block1.conv1": all_but(8, 3), "expand": all_but(5, 1)}
    moved = net.model.head.bias + 2.0 * net.model.head.weight[:, 4:8].sum(1)
    torch.testing.assert_close(found.head.bias, moved)


@torch.no_grad()
def test_a_constant_moves_into_the_mean_of_a_batch_norm(grouped):
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 5, 3, bias=False),
        nn.BatchNorm2d(5),
        nn.Flatten(),
    ).eval()
    model[0].weight[2] = 0.0
    model[1].bias[2] = 3.0
    structure = trace_structure(model, grouped.images[:1], verify="nothing")
    found, kept = without_dead_channels(model, structure, grouped.images)
    assert [channels.tolist() for channels in kept.values()] == [[0, 1, 3]]
    assert not torch.allclose(found[4].running_mean, model[4].running_mean)
    torch.testing.assert_close(found(grouped.images), model(grouped.images), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_what_a_dead_channel_alone_has_read_dies_with_it_and_one_always_stays():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)).eval()
    model[2].weight[:, 1] = 0.0
    model[2].weight[3, 1] = 1.0  # channel 1 is read by channel 3 alone,
    model[4].weight[:, 3] = 0.0  # which is not read
    images = torch.randn(8, 4)
    found, kept = without_dead_channels(model, trace_structure(model, images[:1], verify="nothing"), images)
    assert [channels.tolist() for channels in kept.values()] == [all_but(6, 1), all_but(5, 3)]
    torch.testing.assert_close(found(images), model(images))
    model[4].weight.zero_()
    found, kept = without_dead_channels(model, trace_structure(model, images[:1], verify="nothing"), images)
    assert [len(channels) for channels in kept.values()] == [1, 1]
    torch.testing.assert_close(found(images), model(images))


@pytest.mark.heavy
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), density=st.sampled_from([0.003, 0.01]))
def test_a_residual_network_with_few_weights_left_is_smaller_and_computes_the_same(seed, density):
    model = amc.create_model("digits_resnet", seed=seed).eval()
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.bias.data.normal_(generator=generator)
            module.running_mean.normal_(generator=generator)
        elif isinstance(module, nn.Conv2d | nn.Linear):
            weight = module.weight.data
            weight.masked_fill_(torch.rand(weight.shape, generator=generator) >= density, 0.0)
    images = torch.randn(16, 1, 8, 8, generator=generator)
    structure = trace_structure(model, images[:1], verify="nothing")
    found, kept = without_dead_channels(model, structure, images)
    assert kept
    assert count_flops(found, images[:1]) < count_flops(model, images[:1])
    with torch.no_grad():
        expected = model(images)
        torch.testing.assert_close(found(images), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("fixture", ["grouped"])
def test_grouped_convolutions_are_left_as_they_read(fixture, request):
    case = request.getfixturevalue(fixture)
    with torch.no_grad():
        case.model.conv1.weight[[1, 5]] = 0.0
    assert smaller(case)[1] == {}


@pytest.mark.parametrize(
    ("end", "spoilt"),
    [
        (lambda values: [{"boxes": row} for row in values], False),
        (lambda values: {"boxes": values, "scores": values.sum(1), "none": values[:, :0]}, False),
        (torch.fft.fft, False),
        (lambda values: (values, torch.rand(3)), True),
    ],
    ids=["one dict an image", "several tensors", "complex", "another output that differs"],
)
def test_all_outputs_are_compared_whatever_their_form(end, spoilt):
    class Ends(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, values):
            return end(self.last(torch.relu(self.first(values))))

    torch.manual_seed(0)
    model, images = Ends().eval(), torch.randn(5, 3)
    structure = trace_structure(model, images[:1])
    model.last.weight.data[:, 1] = 0.0
    found, kept = without_dead_channels(model, structure, images)
    assert (found is model) is spoilt
    assert [len(channels) for channels in kept.values()] == ([] if spoilt else [3])
