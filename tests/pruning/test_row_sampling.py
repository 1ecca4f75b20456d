"""Rows of a layer's regression are drawn where the network's output depends on them."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from amc.pruning import ReconstructionOptions, reconstruct
from amc.pruning.recovery.row_sampling import draw_rows, row_weights
from amc.runtime.many_inputs import Inputs
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
    weights = row_weights(model, {"2": 16}, images)["2"].reshape(600, 16).mean(0)
    torch.testing.assert_close(weights, columns.square().sum((0, 1)), rtol=0.15, atol=0.0)
    assert not model[0].weight.grad


def test_images_beyond_those_looked_at_get_the_mean_of_each_place(monkeypatch):
    monkeypatch.setattr("amc.pruning.criteria.projected_gradients._VALUES", 10 * 32)
    images = torch.randn(25, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    weights = row_weights(network(), {"0": 16}, images)["0"].reshape(25, 16)
    torch.testing.assert_close(weights[10:], weights[:10].mean(0, keepdim=True).expand(15, -1))


class Refuses(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values):
        return values.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise ValueError("this operator has no gradient")


class Ends(nn.Module):
    """Makes of the network's output what a function returns."""

    def __init__(self, end):
        super().__init__()
        self.network, self.end = network(), end

    def forward(self, values):
        return self.end(self.network(values))


@pytest.mark.parametrize(
    "end",
    [
        lambda values: torch.frexp(values).exponent,
        lambda values: values.argmax(1),
        lambda values: {"boxes": values, "scores": values.sum(1)},
        lambda values: [{"boxes": row} for row in values],
        lambda values: torch.from_numpy(values.numpy().copy()),
        Refuses.apply,
    ],
    ids=["exponent", "class", "boxes and scores", "one dict an image", "NumPy", "error of an own operator"],
)
def test_a_network_without_gradients_or_a_main_output_has_no_weights(end):
    assert row_weights(Ends(end), {"network.0": 16}, torch.randn(4, 2, 4, 4)) == {}


@pytest.mark.parametrize("inputs", [lambda images: (images,), lambda images: {"values": images}], ids=["tuple", "dict"])
def test_inputs_of_any_form_have_the_weights_of_images(inputs):
    model, images = Ends(lambda values: values), torch.randn(40, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    one, other = (row_weights(model, {"network.2": 16}, form) for form in (images[:25], Inputs(inputs(images[:25]))))
    torch.testing.assert_close(one, other)


def test_a_layer_that_does_not_see_every_image_has_no_weights():
    class Routed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.expert, self.head = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2)

        def forward(self, values):
            values = self.first(values)
            return self.head(torch.cat([self.expert(values[:3]), values[3:]]))

    weights = row_weights(Routed(), {"first": 1, "expert": 1, "head": 1}, torch.randn(10, 3))
    assert weights.keys() == {"first", "head"}


def test_tensors_that_a_network_keeps_hold_no_graph():
    class Keeps(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.head = nn.Linear(3, 3), nn.Linear(3, 2)
            self.register_buffer("mean", torch.zeros(3))

        def forward(self, values):
            self.features = self.first(values)
            self.mean.copy_(self.features.mean(0))
            return self.head(self.features)

    model = Keeps().train()
    assert row_weights(model, {"first": 1}, torch.randn(10, 3)).keys() == {"first"}
    copy.deepcopy(model)
    assert model.training
    assert not model.mean.any()
    assert not model.mean.requires_grad
    assert not any(parameter.grad is not None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


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
