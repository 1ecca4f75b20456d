"""The most memory that activations take at once."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import amc
from amc.costs import Budget
from amc.costs.peak_memory import peak_memory, peak_memory_cost
from amc.errors import StructureError

FLOAT = 4


class Block(nn.Module):
    """Two convolutions with a shortcut around them."""

    def __init__(self, inner, outer=6):
        super().__init__()
        self.stem = nn.Conv2d(3, outer, 1)
        self.first, self.second = nn.Conv2d(outer, inner, 1), nn.Conv2d(inner, outer, 1)

    def forward(self, x):
        x = self.stem(x)
        return x + self.second(torch.relu(self.first(x)))


def positions(*channels):
    return FLOAT * 4 * 4 * sum(channels)


def example():
    return torch.zeros(1, 3, 4, 4)


@pytest.mark.parametrize("inner", [2, 5, 9, 40])
def test_what_is_read_later_stays_alive(inner):
    relu, addition = positions(6, inner, inner), positions(6, 6, 6)  # what was read before is gone
    assert peak_memory(Block(inner), example()) == max(relu, addition)


def test_views_take_no_memory_and_outputs_stay():
    net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Flatten(), nn.Linear(128, 10))
    assert peak_memory(net, example()) == positions(3, 8)
    assert peak_memory(net[:2], example()) == positions(3, 8)


def test_what_works_in_place_makes_nothing():
    assert peak_memory(nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(inplace=True)), example()) == positions(3, 8)
    assert peak_memory(nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU()), example()) == positions(8, 8)


@given(widths=st.tuples(st.integers(1, 9), st.integers(1, 6)))
def test_the_cost_is_what_is_counted_at_every_width(widths, predicted):
    assert predicted.cost(widths) == peak_memory(Block(*widths), example())
    tracker = predicted.track((9, 6))
    assert tracker.cost == predicted.dense
    assert tracker.cost_with(1, widths[1]) == predicted.cost((9, widths[1]))
    tracker.set_width(0, widths[0])
    assert tracker.cost == predicted.cost((widths[0], 6))


@pytest.fixture(scope="module")
def predicted():
    return peak_memory_cost(lambda widths: Block(*widths), example(), (9, 6))


def test_networks_that_change_with_their_widths_are_refused():
    def network(widths):
        return nn.Sequential(nn.Conv2d(3, widths[0], 1), *([nn.ReLU()] if widths[0] > 4 else []))

    with pytest.raises(StructureError, match="the same operators"):
        peak_memory_cost(network, example(), (9,))


def test_a_run_meets_a_bound_on_memory_to_the_byte():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 16, 1), nn.ReLU(), nn.Conv2d(16, 12, 1), nn.ReLU(), nn.AvgPool2d(4), nn.Flatten(), nn.Linear(12, 2)
    )
    result = amc.compress(
        net,
        amc.OwnTask(lambda model: 1.0, example_input=example()),
        Budget(memory=0.5),
        agent="uniform",
        finetune=lambda model: None,
        device="cpu",
    )
    memory = result.summary["costs"]["memory"]
    assert memory["dense"] == positions(16, 16)
    assert memory["pruned"] == peak_memory(result.model, example()) <= memory["dense"] // 2
