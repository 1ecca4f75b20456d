"""Predicted costs equal the counted ones on the cut network, for any widths."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from amc.costs.counting import count_flops, count_params
from amc.structure import CostTerm, Extent
from amc.structure.slicing import cut, widths_of
from amc.tracing.trace import trace_structure
from amc.tracing.trial import frozen

IMAGE = torch.randn(1, 3, 8, 8)


def test_an_extent_is_affine_in_the_widths():
    extent = Extent(3, ((0, 2), (2, 5)))
    assert extent.length((10, 99, 4)) == 3 + 2 * 10 + 5 * 4
    assert Extent(7).length(()) == 7


def test_a_term_is_a_product_of_extents():
    term = CostTerm(9, (Extent(0, ((0, 1),)), Extent(1, ((0, 1), (1, 2)))))
    assert term.cost((4, 5)) == 9 * 4 * (1 + 4 + 10)
    assert term.decisions() == {0, 1}
    assert CostTerm(6).cost(()) == 6


class Everything(nn.Module):
    """One of each: residual sum, squeeze and excitation, depthwise, groups, concatenation, attention, flatten."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU())
        self.expand = nn.Conv2d(12, 20, 1)
        self.depthwise = nn.Sequential(nn.Conv2d(20, 20, 3, padding=1, groups=20), nn.BatchNorm2d(20), nn.Hardswish())
        self.squeeze, self.excite = nn.Conv2d(20, 6, 1), nn.Conv2d(6, 20, 1)
        self.project = nn.Conv2d(20, 12, 1)
        self.grouped = nn.Conv2d(12, 16, 3, padding=1, groups=2)
        self.side = nn.Conv2d(12, 5, 1)
        self.pool = nn.AdaptiveAvgPool2d(3)
        self.upsample = nn.Upsample(scale_factor=2, mode="bilinear")
        self.tokens = nn.Linear(21, 12)
        self.norm, self.attention = nn.LayerNorm(12), nn.MultiheadAttention(12, 4, batch_first=True)
        self.gate = nn.Sequential(nn.Linear(12, 14), nn.GLU())
        self.head = nn.Linear(7 * 9, 4)

    def forward(self, x):
        x = self.stem(x)
        y = self.depthwise(self.expand(x))
        y = y * self.excite(self.squeeze(y.mean((2, 3), keepdim=True)).relu()).sigmoid()
        x = x + self.project(y)
        x = self.upsample(torch.cat([self.grouped(x), self.side(x)], 1))
        x = self.tokens(self.pool(x).flatten(2).transpose(1, 2))
        y = self.norm(x)
        x = x + self.attention(y, y, y)[0]
        return self.head(self.gate(x).flatten(1))


MODEL = Everything()
STRUCTURE = trace_structure(MODEL, IMAGE)


@st.composite
def kept_channels(draw):
    kept = {}
    for index in STRUCTURE.prunable:
        channels = STRUCTURE.groups[index].channels
        chosen = draw(st.sets(st.integers(0, channels - 1), min_size=1))
        kept[index] = torch.tensor(sorted(chosen))
    return kept


def test_all_groups_but_the_output_are_prunable():
    assert [group.name for group in STRUCTURE.groups if not group.prunable] == ["head"]
    names = ["stem.0", "expand", "squeeze", "grouped", "side", "tokens", "attention", "gate.0"]
    assert [STRUCTURE.groups[index].name for index in STRUCTURE.prunable] == names


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(kept=kept_channels())
def test_predicted_costs_equal_the_counted_ones(kept):
    model = copy.deepcopy(MODEL)
    cut(model, STRUCTURE, kept)
    widths = widths_of(STRUCTURE, kept)
    assert sum(term.cost(widths) for term in STRUCTURE.flops_terms) == count_flops(model, IMAGE)
    assert sum(term.cost(widths) for term in STRUCTURE.params_terms) == count_params(model)


def test_dense_costs():
    assert STRUCTURE.dense_flops == count_flops(MODEL, IMAGE)
    assert STRUCTURE.dense_params == count_params(MODEL)


def test_a_group_that_is_frozen_later_counts_with_its_dense_width():
    index = STRUCTURE.prunable[1]
    closed = frozen(STRUCTURE, {index: "because"})
    assert closed.groups[index].reason == "because"
    assert closed.dense_flops == STRUCTURE.dense_flops
    assert closed.dense_params == STRUCTURE.dense_params
    widths = list(STRUCTURE.dense_widths)
    widths[index] = 1
    assert sum(term.cost(widths) for term in closed.flops_terms) == closed.dense_flops
    assert not any(index in term.decisions() for term in (*closed.flops_terms, *closed.params_terms))
    assert not any(index == group for entry in closed.attributes for group, _ in entry.value.counts)


@pytest.mark.parametrize("batch", [2, 5])
def test_costs_are_those_of_the_whole_example(batch):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 3))
    structure = trace_structure(model, torch.randn(batch, 3, 8, 8))
    assert structure.dense_flops == batch * (36 * 27 * 4 + 36 * 4 * 2 + 16 * 36 * 2)


class Tokens(nn.Module):
    """A convolution, tokens made of its output, something that mixes them, and a head."""

    def __init__(self, mix, **modules):
        super().__init__()
        self.stem, self.wide = nn.Conv2d(3, 10, 3, padding="same"), nn.Conv2d(10, 12, 1)
        self.mix, self.head = mix, nn.Linear(12, 4)
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x):
        x = self.wide(self.stem(x).relu()).flatten(2).transpose(1, 2)
        return self.head(self.mix(self, x))


MASK = torch.zeros(1, 64, 64)  # of three axes: attention then runs as plain products


@pytest.mark.parametrize(
    "model",
    [
        Tokens(lambda net, x: nn.functional.scaled_dot_product_attention(x, x, x)),
        Tokens(lambda net, x: nn.functional.scaled_dot_product_attention(x, x, x, MASK)),
        Tokens(lambda net, x: torch.tensordot(x, torch.eye(12), 1)),
        Tokens(lambda net, x: torch.inner(x, torch.eye(12))),
    ],
    ids=["attention", "attention by products", "tensordot", "inner"],
)
def test_what_fvcore_does_not_count_is_not_predicted(tools, model):
    structure, small = tools.traced(model, IMAGE)
    assert small.stem.out_channels < 8
    assert structure.dense_flops == 64 * (27 * 10 + 10 * 12 + 12 * 4)  # the layers alone


@pytest.mark.parametrize(
    ("recurrent", "elements"),
    [
        (nn.LSTM(12, 12, batch_first=True), 4 * 12 * 24),
        (nn.GRU(12, 12, num_layers=2, batch_first=True), 2 * 3 * 12 * 24),
        (nn.RNN(12, 12, batch_first=True), 12 * 24),
    ],
    ids=["lstm", "gru", "rnn"],
)
def test_recurrent_layers_are_predicted_as_they_are_counted(tools, recurrent, elements):
    structure, _ = tools.traced(Tokens(lambda net, x: net.recurrent(x)[0], recurrent=recurrent), IMAGE)
    assert sum(layer.flops for layer in structure.layers if layer.owner == "recurrent") == 64 * elements
