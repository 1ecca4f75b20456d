"""Loops and sizes that depend on a width: their costs are predicted right, or the group stays whole, with a reason."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from amc.costs.counting import count_flops
from amc.structure.slicing import cut, widths_of
from amc.tracing.cost_trial import COSTS_DIFFER
from amc.tracing.grouping import IN_PARTS

IMAGE = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))


class Averaging(nn.Module):
    """Runs a layer on the same input again and again, and averages: the values do not tell how often."""

    step = 2

    def __init__(self):
        super().__init__()
        self.width = 16
        self.first, self.again = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 12, 1)
        self.head = nn.Linear(12, 4)

    def times(self, x):
        return range(0, x.shape[1], self.step)

    def forward(self, x):
        x = self.first(x)
        runs = [self.again(x) for _ in self.times(x)]
        return self.head((sum(runs) / len(runs)).mean((2, 3)))


class BySize(Averaging):
    """Counts by the layer's own number of channels."""

    def times(self, x):
        return range(0, self.first.out_channels, self.step)


class InLargeSteps(Averaging):
    """Runs as often with half of the channels, but not with one."""

    step = 9


class OfAnotherBranch(Averaging):
    """Another layer runs as often as the first is wide."""

    def __init__(self):
        super().__init__()
        self.beside = nn.Conv2d(3, 12, 3)

    def forward(self, x):
        first = self.first(x)
        runs = [self.beside(x) for _ in self.times(first)]
        return self.head((self.again(first) * sum(runs) / len(runs)).mean((2, 3)))


class OnlyOfMany(Averaging):
    """Runs a layer where there are many channels, with little effect."""

    def forward(self, x):
        x = self.first(x)
        y = self.again(x)
        return self.head((y + 1e-9 * self.again(x) if x.shape[1] > 3 else y).mean((2, 3)))


class AsLongAsWide(Averaging):
    """Lays a mean out on a map as long as there are channels."""

    def forward(self, x):
        x = self.first(x).mean((2, 3), keepdim=True)
        return self.head(self.again(x.expand(-1, -1, x.shape[1], 1)).mean((2, 3)))


@pytest.mark.parametrize("kind", [Averaging, BySize, InLargeSteps, OfAnotherBranch, OnlyOfMany, AsLongAsWide])
def test_a_group_whose_width_decides_what_is_run_stays_whole(tools, kind):
    structure, small = tools.traced(kind(), IMAGE)
    assert tools.reasons_of(structure) == {"first": COSTS_DIFFER, "head": "the network's output"}
    assert small.again.out_channels < 12
    check_costs_at_all_widths(tools, structure, kind)


class ByANumber(Averaging):
    """Runs as often whatever the width is."""

    def times(self, x):
        return range(0, self.width, self.step)


class OverPairs(nn.Module):
    """Computes pairs of channels by one small layer, as many as there are."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 10, 1), nn.Linear(10, 4)

    def forward(self, x):
        x = self.first(x)
        parts = [
            functional.conv2d(x[:, start : start + 2], self.second.weight[:, start : start + 2])
            for start in range(0, x.shape[1], 2)
        ]
        return self.head(sum(parts).mean((2, 3)))


@pytest.mark.parametrize("kind", [ByANumber, OverPairs])
def test_loops_whose_costs_follow_the_widths_let_them_be_cut(tools, kind):
    structure, small = tools.traced(kind(), IMAGE)
    assert list(tools.reasons_of(structure)) == ["head"]
    assert small.first.out_channels < 16
    check_costs_at_all_widths(tools, structure, kind)


class SomeAtATime(OverPairs):
    """Computes the outputs two at a time."""

    def forward(self, x):
        x, weight = self.first(x), self.second.weight
        parts = [functional.conv2d(x, weight[start : start + 2]) for start in range(0, weight.shape[0], 2)]
        return self.head(torch.cat(parts, 1).mean((2, 3)))


def test_channels_that_are_computed_some_at_a_time_stay_whole(tools):
    structure, small = tools.traced(SomeAtATime(), IMAGE)
    assert tools.reasons_of(structure) == {"second": IN_PARTS, "head": "the network's output"}
    assert small.first.out_channels < 16
    check_costs_at_all_widths(tools, structure, SomeAtATime)


def check_costs_at_all_widths(tools, structure, kind):
    for kept in tools.kept_sets(structure):
        small = tools.randomise(kind())
        cut(small, structure, kept)
        widths = widths_of(structure, kept)
        assert sum(term.cost(widths) for term in structure.flops_terms) == count_flops(small, IMAGE)
