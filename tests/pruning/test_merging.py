"""Neuron merging: the paper's scales by hand, and exact where the filters are parallel."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from amc.errors import ConfigurationError
from amc.pruning.recovery.merging import NeuronMerging, behind_norm, find_merges
from amc.pruning.recovery.registry import PrunedNetwork
from amc.structure.slicing import cut
from amc.tracing.trace import trace_structure


def parallel(norm):
    """A network whose last three filters are 0.5, 2 and 3 times its first three, batch norms following suit."""
    torch.manual_seed(0)
    first, second = nn.Conv2d(2, 6, 3, padding=1, bias=not norm), nn.Conv2d(6, 4, 3)
    batch_norm = nn.BatchNorm2d(6) if norm else nn.Identity()
    factors = torch.tensor([0.5, 2.0, 3.0])
    with torch.no_grad():
        first.weight[3:] = first.weight[:3] * factors.view(3, 1, 1, 1)
        if norm:
            batch_norm.running_var.uniform_(0.5, 2), batch_norm.weight.uniform_(0.5, 2)
            batch_norm.running_mean[:3], batch_norm.bias[:3] = torch.randn(3), torch.randn(3)
            batch_norm.running_mean[3:] = batch_norm.running_mean[:3] * factors
            gain = batch_norm.weight / (batch_norm.running_var + batch_norm.eps).sqrt()
            batch_norm.bias[3:] = batch_norm.bias[:3] * factors * gain[3:] / gain[:3]
        else:
            first.bias[3:] = first.bias[:3] * factors
    layers = [first, batch_norm, nn.ReLU(), second, nn.ReLU(), nn.Flatten(), nn.Linear(4 * 16, 3)]
    return nn.Sequential(*layers).eval()


def merged(model, kept, **options):
    structure = trace_structure(model, torch.zeros(1, 2, 6, 6))
    places = {index: torch.tensor(kept) for index in structure.prunable if structure.groups[index].name == "0"}
    assert places
    smaller = copy.deepcopy(model)
    cut(smaller, structure, places)
    before = copy.deepcopy(smaller)
    NeuronMerging(**options)(PrunedNetwork(smaller, model, structure, torch.zeros(1, 2, 6, 6), places))
    return smaller, before


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("kept", [[0, 1, 2], [3, 4, 5], [0, 2, 4]])
def test_parallel_filters_are_merged_without_loss(norm, kept):
    model = parallel(norm)
    images = torch.randn(20, 2, 6, 6)
    smaller, before = merged(model, kept)
    with torch.no_grad():
        assert torch.allclose(smaller(images), model(images), atol=1e-5)
        assert not torch.allclose(before(images), model(images), atol=1e-2)


def test_what_is_less_alike_than_the_threshold_is_left():
    model = parallel(norm=False)
    smaller, before = merged(model, [0, 1], threshold=0.999)  # 3 and 4 have parallel ones, 2 and 5 have none
    structure = trace_structure(model, torch.zeros(1, 2, 6, 6))
    merges = find_merges(model, structure.layers[0], torch.tensor([0, 1]), 0.999, 0.85)
    assert [(merge.removed, merge.kept) for merge in merges] == [(3, 0), (4, 1)]
    assert [merge.scale for merge in merges] == pytest.approx([0.5, 2.0])
    expected = model[3].weight[:, :2] + model[3].weight[:, 3:5] * torch.tensor([0.5, 2.0]).view(1, 2, 1, 1)
    assert torch.allclose(smaller[3].weight, expected)
    assert torch.equal(before[3].weight, model[3].weight[:, :2])


def test_scale_and_shift_behind_a_batch_norm_by_hand():
    """s = 2, (gamma, beta, mu, sigma) = (1.5, 0.1, 0.3, 2) removed and (0.5, -0.2, 0.7, 3) kept: S = 9, B = 2.725."""
    norm = nn.BatchNorm2d(2, eps=0.0)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.5, 0.5])), norm.bias.copy_(torch.tensor([0.1, -0.2]))
        norm.running_mean.copy_(torch.tensor([0.3, 0.7])), norm.running_var.copy_(torch.tensor([4.0, 9.0]))
    model, writer = nn.Sequential(norm), SimpleNamespace(batch_norm="0")
    scale, shift = behind_norm(model, writer, torch.tensor([0]), torch.tensor([1]), torch.tensor([[2.0]]).double())
    assert (float(scale), float(shift)) == pytest.approx((9.0, 2.725), rel=1e-6)


@pytest.mark.parametrize("options", [{"threshold": 1.5}, {"mix": -0.1}])
def test_options_out_of_range_are_named(options):
    with pytest.raises(ConfigurationError, match=r"threshold must be in \[-1, 1\] and mix in \[0, 1\]"):
        NeuronMerging(**options)
