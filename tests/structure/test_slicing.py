"""One slicing for search, surgery, saving and loading."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from amc.errors import StructureError
from amc.structure.slicing import attribute_values, cut, kept_positions, set_attributes, set_tensors, slice_tensor
from amc.tracing.trace import trace_structure


@pytest.fixture
def network():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))


@pytest.fixture
def structure(network):
    return trace_structure(network, torch.randn(1, 3, 4, 4))


KEPT = {0: torch.tensor([1, 3])}


def test_positions_that_stay(network, structure):
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    stays = kept_positions(structure, KEPT, shapes)
    assert {name: list(axes) for name, axes in stays.items()} == {
        "0.weight": [0],
        "0.bias": [0],
        "1.weight": [0],
        "1.bias": [0],
        "1.running_mean": [0],
        "1.running_var": [0],
        "3.weight": [1],
    }
    assert stays["0.weight"][0].tolist() == [1, 3]
    assert stays["3.weight"][1].tolist() == [4, 5, 6, 7, 12, 13, 14, 15]


def test_cut_takes_the_dense_values_at_the_kept_places(network, structure):
    dense = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    cut(network, structure, KEPT)
    state = network.state_dict()
    assert torch.equal(state["0.weight"], dense["0.weight"][[1, 3]])
    assert torch.equal(state["1.running_var"], dense["1.running_var"][[1, 3]])
    assert torch.equal(state["3.weight"], dense["3.weight"][:, [4, 5, 6, 7, 12, 13, 14, 15]])
    assert torch.equal(state["3.bias"], dense["3.bias"])
    assert all(tensor.is_contiguous() for tensor in state.values())
    assert (network[0].out_channels, network[1].num_features, network[3].in_features) == (2, 2, 8)


def test_a_cut_network_trains(network, structure):
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    network[0].bias.requires_grad_(False)
    cut(network, structure, KEPT)
    assert not network[0].bias.requires_grad
    assert all(parameter.grad is None for name, parameter in network.named_parameters() if name != "3.bias")
    network.train()(torch.randn(2, 3, 4, 4)).sum().backward()
    assert network[0].weight.grad.shape == (2, 3, 3, 3)


@pytest.mark.parametrize("channels", [[], [0, 4], [-1, 2]])
def test_a_group_keeps_one_of_its_own_channels_at_least(network, structure, channels):
    with pytest.raises(StructureError, match=r"group '0' has channels 0 to 3 and must keep one at least; asked"):
        cut(network, structure, {0: torch.tensor(channels, dtype=torch.int64)})
    assert network[0].out_channels == 4


def test_two_groups_that_cut_one_tensor_leave_a_box(tools):
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 6, 1), nn.Conv2d(6, 2, 1))
    structure = trace_structure(tools.randomise(model), torch.randn(1, 3, 4, 4))
    dense = model[1].weight.detach().clone()
    cut(model, structure, {0: torch.tensor([0, 2]), 1: torch.tensor([1, 4, 5])})
    assert torch.equal(model[1].weight, dense[[1, 4, 5]][:, [0, 2]])


def test_slices_are_new_tensors():
    tensor = torch.arange(12.0).reshape(3, 4)
    whole = slice_tensor(tensor, {0: torch.arange(3)})
    whole[0, 0] = 7
    assert tensor[0, 0] == 0
    assert slice_tensor(tensor, {0: torch.tensor([2]), 1: torch.tensor([0, 3])}).tolist() == [[8, 11]]


def test_parameters_that_are_shared_stay_shared_and_buffers_are_replaced():
    layer = nn.BatchNorm1d(4)
    twin = nn.BatchNorm1d(4)
    twin.weight = layer.weight
    model = nn.Sequential(layer, twin)
    set_tensors(model, {"0.weight": torch.ones(2), "0.running_mean": torch.zeros(2)})
    assert twin.weight is layer.weight
    assert len(twin.weight) == len(layer.running_mean) == 2
    assert len(twin.running_mean) == 4


def test_attributes_follow_the_widths_also_inside_tuples(tools):
    model = nn.Sequential(nn.Linear(3, 6), nn.LayerNorm(6), nn.Linear(6, 2))
    structure = trace_structure(tools.randomise(model), torch.randn(1, 3))
    values = attribute_values(structure, (4, 2))
    assert sorted(values) == [("0", "out_features", 4), ("1", "normalized_shape", 4), ("2", "in_features", 4)]
    set_attributes(model, values)
    assert model[1].normalized_shape == (4,)
    assert model[2].in_features == 4
