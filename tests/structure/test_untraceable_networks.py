"""Networks that cannot be traced are refused with the reason."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from amc.errors import ModelError, StructureError
from amc.models import check_finite
from amc.tracing.trace import trace_structure

IMAGE = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def network():
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.Conv2d(6, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 3))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value):
    model = network()
    with torch.no_grad():
        model[1].weight[0, 0, 0, 0] = value
    with pytest.raises(ModelError, match=r"'1\.weight' holds NaN or infinity"):
        trace_structure(model, IMAGE)


def test_a_mask_or_a_bound_may_be_infinite_and_statistics_may_not():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.norm, self.last = nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Linear(8, 2)
            self.register_buffer("mask", torch.full((6, 6), -float("inf")).triu(1))

        def forward(self, x):
            x = self.norm(self.first(x).transpose(1, 2)).transpose(1, 2).relu()
            return self.last((x @ x.transpose(1, 2) + self.mask).softmax(-1) @ x)

    model, tokens = Masked(), torch.randn(1, 6, 5, generator=torch.Generator().manual_seed(3))
    assert [group.name for group in trace_structure(model, tokens).groups if group.prunable] == ["first"]
    check_finite(model.state_dict(), dict(model.named_buffers()))
    model.mask[0, 0] = float("nan")
    with pytest.raises(ModelError, match="'mask' holds NaN or infinity"):
        trace_structure(model, tokens)
    model.mask[0, 0] = 0.0
    model.norm.running_var[0] = float("inf")
    with pytest.raises(ModelError, match=r"'norm\.running_var' holds NaN or infinity"):
        trace_structure(model, tokens)


def test_lazy_networks_are_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = nn.Sequential(nn.LazyConv2d(4, 3), nn.Conv2d(4, 2, 3))
    with pytest.raises(ModelError, match=r"'0\.weight' is lazy; run the network once before"):
        trace_structure(model, IMAGE)


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (torch.randn(1, 4, 8, 8), "expected input.* to have 3 channels"),
        ((IMAGE, IMAGE), "takes 2 positional arguments but 3 were given"),
        ({"image": IMAGE}, "unexpected keyword argument 'image'"),
    ],
)
def test_a_network_that_does_not_run_is_refused(example, message):
    with pytest.raises(StructureError, match=f"must run on the example input, but fails: .*{message}"):
        trace_structure(network(), example)


@pytest.mark.parametrize("returned", [None, 3, {"loss": None}])
def test_a_network_that_returns_no_tensor_is_refused(returned):
    class Silent(nn.Sequential):
        def forward(self, x):
            super().forward(x)
            return returned

    with pytest.raises(StructureError, match=r"must return a tensor, .* Silent returns none: let its forward"):
        trace_structure(Silent(*network()), IMAGE)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (IMAGE, "must be a torch.nn.Module, not a Tensor"),
        ("resnet20", "must be a torch.nn.Module, not a str"),
        (nn.ReLU, r"not the class ReLU: give an instance, as in ReLU\(\)"),
    ],
)
def test_what_is_no_network_is_refused(given, said):
    with pytest.raises(ModelError, match=said):
        trace_structure(given, IMAGE)


@pytest.mark.parametrize(("given", "said"), [(None, "None"), (IMAGE.numpy(), "a ndarray"), ("image", "a str")])
def test_what_is_no_example_is_refused(given, said):
    with pytest.raises(StructureError, match=rf"an example input must be a tensor, a tuple .*, not {said}$"):
        trace_structure(network(), given)
