"""Rows that a gate picks: what its values depend on stays whole, as they decide what the layers behind cost."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from amc.tracing.picked_rows import TELLS_ROWS

TOKENS = torch.randn(1, 12, 4, generator=torch.Generator().manual_seed(1))


class Gated(nn.Module):
    """A gate that sends some of the tokens to a branch."""

    def __init__(self, route):
        super().__init__()
        self.route, self.stem = route, nn.Linear(4, 8)
        self.gate, self.head = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 1)), nn.Linear(8, 3)
        self.branch = nn.Sequential(nn.Linear(8, 10), nn.ReLU(), nn.Linear(10, 8))

    def forward(self, x):
        return self.head(self.route(self, self.stem(x), x))


def by_mask(net, y, x):
    out, keep = torch.zeros_like(y), net.gate(y)[..., 0] > 0
    out[keep] = net.branch(y[keep])
    return y + out


def by_positions(net, y, x):
    rows, steps = torch.where(net.gate(y)[..., 0] > 0)
    return y.index_put((rows, steps), net.branch(y[rows, steps]))


@pytest.mark.parametrize("route", [by_mask, by_positions])
def test_what_a_gate_depends_on_stays_whole_with_the_remedy(tools, route):
    structure, small = tools.traced(Gated(route), TOKENS)
    reasons = tools.reasons_of(structure)
    assert reasons["stem"] == reasons["gate.0"] == TELLS_ROWS
    assert small.branch[0].out_features == small.branch[2].in_features < 10


def of_the_input(net, y, x):
    out, keep = torch.zeros_like(y), x[..., 0] > 0
    out[keep] = net.branch(y[keep])
    return out + net.gate(y)


def of_a_fixed_number(net, y, x):
    steps = net.gate(y)[..., 0].topk(5).indices
    rows = torch.arange(len(y))[:, None]
    return y.index_put((rows, steps), net.branch(y[rows, steps]))


def without_cost(net, y, x):
    y = y.clone()
    keep = net.gate(y)[..., 0] > 0
    y[keep] = y[keep].exp()
    return net.branch(y)


@pytest.mark.parametrize("route", [of_the_input, of_a_fixed_number, without_cost])
def test_rows_whose_number_changes_no_cost_freeze_nothing(tools, route):
    structure, small = tools.traced(Gated(route), TOKENS)
    assert TELLS_ROWS not in tools.reasons_of(structure).values()
    assert small.stem.out_features < 8
    assert small.gate[0].out_features < 6
