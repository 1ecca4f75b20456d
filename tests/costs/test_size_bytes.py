"""The bytes of a saved network are known before it is written, to the last."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import amc
from amc.costs import Budget
from amc.costs.metrics import METRICS
from amc.problem import filter_problem, weight_problem
from amc.storage.save import save_weights
from amc.structure.slicing import cut
from amc.tracing.trace import trace_structure


class Mixed(nn.Module):
    """Number formats of two widths, a weight under two names, a counter and a buffer of no values."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 12, 3)
        self.norm = nn.BatchNorm2d(12)
        self.middle = nn.Linear(12, 9)
        self.head = nn.Linear(9, 101).double()
        self.again = nn.Linear(12, 9, bias=False)
        self.again.weight = self.middle.weight
        self.register_buffer("steps", torch.zeros(0, dtype=torch.int32))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = self.norm(self.first(images)).relu().mean((2, 3))
        return self.head((self.middle(hidden) + self.again(hidden)).relu().double())


@pytest.fixture(scope="module", params=["digits_resnet", "mixed"])
def network(request):
    model = (Mixed() if request.param == "mixed" else amc.create_model("digits_resnet", seed=0)).eval()
    example = torch.zeros(1, 1, 8, 8)
    return Network((model, trace_structure(model, example, verify="nothing"), example))


class Network(tuple):
    """A network, its structure and an example input."""

    def __repr__(self) -> str:
        return "Network"  # Hypothesis prints it


def saved(folder, model):
    save_weights(folder / "model.safetensors", model)
    return (folder / "model.safetensors").stat().st_size


def draws(seed):
    generator = torch.Generator().manual_seed(seed)
    return generator, lambda most: 1 + int(torch.randint(most, (1,), generator=generator))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**16))
def test_networks_that_lost_channels_take_as_many_bytes_as_predicted(tmp_path_factory, network, seed):
    model, structure, example = network
    problem = filter_problem(structure, None, min_keep_ratio=0.0, residual=True)
    generator, draw = draws(seed)
    widths = tuple(draw(decision.size) for decision in problem.decisions)
    kept = {
        decision.group: torch.randperm(decision.size, generator=generator)[:width].sort().values
        for decision, width in zip(problem.decisions, widths, strict=True)
    }
    small = copy.deepcopy(model)
    cut(small, structure, kept)
    size = saved(tmp_path_factory.mktemp("net"), small)
    assert problem.cost(widths, "size_bytes") == size == METRICS.get("size_bytes").count(small, example)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**16), most=st.sampled_from([1.0, 0.3]))
def test_networks_that_lost_weights_take_as_many_bytes_as_predicted(tmp_path_factory, network, seed, most):
    model, structure, _ = network
    problem = weight_problem(structure, None, min_keep_ratio=0.0)
    generator, draw = draws(seed)
    widths = tuple(draw(max(1, int(decision.size * most))) for decision in problem.decisions)
    small = copy.deepcopy(model)
    for layer, width in zip(problem.layers, widths, strict=True):
        weight = small.get_parameter(layer.weight)
        weight.data.fill_(1.0)
        weight.data.view(-1)[torch.randperm(weight.numel(), generator=generator)[width:]] = 0.0
    assert problem.cost(widths, "size_bytes") == saved(tmp_path_factory.mktemp("net"), small)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**16))
def test_a_file_never_shrinks_when_a_width_rises(network, seed):
    _, structure, _ = network
    for problem in (filter_problem(structure, None, min_keep_ratio=0.0), weight_problem(structure, None)):
        _, draw = draws(seed)
        widths = [draw(decision.size) for decision in problem.decisions]
        if seed % 2:  # near the width at which a layer is stored dense
            widths = [max(1, int(decision.size * 0.969)) for decision in problem.decisions]
        tracker = problem.costs["size_bytes"].track(widths)
        index = seed % len(widths)
        size = problem.decisions[index].size
        costs = [tracker.cost_with(index, width) for width in range(1, size + 1, max(1, size // 200))]
        assert costs == sorted(costs)
        tracker.set_width(index, size)
        widths[index] = size
        assert tracker.cost == problem.cost(widths, "size_bytes")


def test_a_budget_of_bytes_holds_together_with_others(network):
    _, structure, _ = network
    problem = weight_problem(structure, Budget(params=0.3, flops=0.3, size_bytes=0.4))
    widths = problem.project([1.0] * len(problem.decisions))
    assert all(problem.cost(widths, metric) <= limit for metric, limit in problem.limits.items())
    assert problem.limits["size_bytes"] == int(0.4 * problem.dense_costs["size_bytes"])
