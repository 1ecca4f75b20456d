"""Rows of a layer's regression are drawn where the network's output depends on them."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from amc.pruning import ReconstructionOptions, reconstruct
from amc.pruning.recovery.row_sampling import draw_rows, row_weights
from amc.tracing.trace import trace_structure


def drawn(weights, total, limit, seed=0):
    return draw_rows(weights, total, limit, torch.Generator().manual_seed(seed))


def test_all_rows_are_taken_where_there_are_no_more_than_the_limit():
    assert torch.equal(drawn(torch.rand(7), 7, 7), torch.arange(7))


@pytest.mark.parametrize("weights", [None, torch.zeros(1000)])
def test_without_weights_rows_are_drawn_alike_and_once(weights):
    rows = drawn(weights, 1000, 100)
    assert len(rows.unique()) == 100
    assert torch.equal(rows, drawn(weights, 1000, 100))


def test_rows_come_as_often_as_their_weights_say():
    weights = torch.tensor([0.0, 1.0, 2.0, 5.0]).repeat(250)
    rows = drawn(weights, 1000, 900)
    assert torch.equal(rows, rows.sort().values)
    counts = torch.bincount(rows % 4, minlength=4) / 900
    # Three in ten are drawn alike.
    torch.testing.assert_close(counts, 0.7 * torch.tensor([0.0, 1, 2, 5]) / 8 + 0.3 / 4, rtol=0.0, atol=0.04)
    assert not torch.equal(rows, drawn(weights, 1000, 900, seed=1))


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 1), nn.Flatten(), nn.Linear(48, 2))


def test_a_weight_is_the_squared_change_of_the_output_that_a_position_makes():
    model = network().eval()
    columns = model[4].weight.data.reshape(2, 3, 16)  # by channel and place
    columns[:, :, 5:] = 0.0  # nobody reads the other places
    images = torch.randn(600, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    weights = row_weights(model, ["2"], images)["2"].reshape(600, 16).mean(0)
    torch.testing.assert_close(weights, columns.square().sum((0, 1)), rtol=0.15, atol=0.0)
    assert not model[0].weight.grad


def test_images_beyond_those_looked_at_get_the_mean_of_each_place(monkeypatch):
    monkeypatch.setattr("amc.pruning.recovery.row_sampling._VALUES", 10 * 32)
    images = torch.randn(25, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    weights = row_weights(network(), ["0"], images)["0"].reshape(25, 16)
    torch.testing.assert_close(weights[10:], weights[:10].mean(0, keepdim=True).expand(15, -1))


def test_a_network_without_gradients_has_no_weights():
    class Rounds(nn.Module):
        def forward(self, values):
            return torch.frexp(values).exponent

    assert row_weights(nn.Sequential(network(), Rounds()), ["0.0"], torch.randn(4, 2, 4, 4)) == {}


@torch.no_grad()
@pytest.mark.parametrize("seed", range(4))
def test_a_layer_comes_closer_at_the_places_that_sway_the_output(seed):
    dense = network(seed).eval()
    dense[4].weight.reshape(2, 3, 16)[:, :, 4:] *= 0.02
    generator = torch.Generator().manual_seed(seed)
    scale = torch.ones(4, 4).index_fill(0, torch.arange(1, 4), 3.0)  # the other rows of pixels are another world
    images = torch.randn(700, 2, 4, 4, generator=generator) * scale - 2 * (scale - 1)
    structure = trace_structure(dense, images[:1])
    pruned = copy.deepcopy(dense)
    pruned[0].weight[2:] = 0.0
    pruned[0].bias[2:] = 0.0
    errors = []
    for weighted in (False, True):
        network_ = copy.deepcopy(pruned)
        options = ReconstructionOptions(rows=2000, rectified=0, weighted=weighted)
        reconstruct(network_, dense, structure, {}, images[:400], options, sparse={"2"})
        off = network_[:3](images[400:]) - dense[:3](images[400:])
        errors.append(float(off[:, :, 0].square().mean()))  # the first row of pixels
    assert errors[1] < 0.97 * errors[0]
