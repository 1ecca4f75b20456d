"""One number gives several layers the width of their states: they are cut alike; a number for each lets them differ."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from amc.storage.architecture import describe, rebuild
from amc.storage.source import ModelSource

SEQUENCES = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(1))


class Stack(nn.Module):
    """Cells above each other, with states of zeros."""

    kind, depth, inputs = nn.GRUCell, 2, 6

    def __init__(self):
        super().__init__()
        self.hidden, self.settings = 12, {"hidden": 12}
        self.cells = nn.ModuleList(self.kind(12 if place else self.inputs, 12) for place in range(self.depth))
        self.head = nn.Linear(12, 4)

    def states(self, x):
        return [torch.zeros(len(x), self.hidden) for _ in self.cells]

    def forward(self, x):
        states = self.states(x)
        for step in x.unbind(1):
            below = step
            for place, cell in enumerate(self.cells):
                below = states[place] = cell(below, states[place])
        return self.head(below)


class OfThree(Stack):
    depth = 3


class Plain(Stack):
    kind = nn.RNNCell


class Long(Stack):
    kind = nn.LSTMCell

    def forward(self, x):
        states = [(zeros, torch.zeros(len(x), self.hidden)) for zeros in self.states(x)]
        for step in x.unbind(1):
            below = step
            for place, cell in enumerate(self.cells):
                states[place] = cell(below, states[place])
                below = states[place][0]
        return self.head(below)


class Together(Stack):
    """Makes the states as one tensor."""

    def states(self, x):
        return list(x.new_zeros(len(self.cells), len(x), self.hidden))


class OneForAll(Stack):
    def states(self, x):
        return [torch.zeros(len(x), self.hidden)] * len(self.cells)


class BySettings(Stack):
    def states(self, x):
        return [torch.zeros(len(x), self.settings["hidden"]) for _ in self.cells]


class Layers(Stack):
    """Whole layers in place of cells."""

    @staticmethod
    def kind(inputs, hidden):
        return nn.GRU(inputs, hidden, batch_first=True)

    def forward(self, x):
        for layer, state in zip(self.cells, self.states(x), strict=True):
            x, _ = layer(x, state[None])
        return self.head(x[:, -1])


@pytest.mark.parametrize("kind", [Stack, OfThree, Plain, Long, Together, OneForAll, BySettings, Layers])
def test_layers_whose_states_one_number_sizes_are_cut_alike(tools, kind):
    structure, small = tools.traced(kind(), SEQUENCES)
    assert [(group.name, group.prunable) for group in structure.groups] == [("cells.0", True), ("head", False)]
    widths = {cell.hidden_size for cell in small.cells}
    assert widths == {(small.settings["hidden"] if kind is BySettings else small.hidden)}
    assert max(widths) < 12
    tools.check_values(tools.randomise(kind()), structure, SEQUENCES)


class Cell(nn.Module):
    """Gates of one's own."""

    def __init__(self, inputs, hidden):
        super().__init__()
        self.below, self.before = nn.Linear(inputs, 2 * hidden), nn.Linear(hidden, 2 * hidden)

    def forward(self, x, state):
        gate, new = (self.below(x) + self.before(state)).chunk(2, 1)
        return gate.sigmoid() * new.tanh() + (1 - gate.sigmoid()) * state


class ByHand(Stack):
    kind = Cell


def test_cells_of_ones_own_are_cut_alike_too(tools):
    structure, small = tools.traced(ByHand(), SEQUENCES)
    assert [group.channels for group in structure.groups if group.prunable] == [12]
    assert {cell.before.in_features for cell in small.cells} == {small.hidden}
    assert small.hidden < 12
    tools.check_values(tools.randomise(ByHand()), structure, SEQUENCES)


def test_the_number_is_saved_and_loaded(tools):
    model = tools.randomise(Stack())
    structure, small = tools.traced(model, SEQUENCES)
    kept = tools.cut_half(model, structure)[1]
    again = rebuild(describe(model, structure, kept, ModelSource.of(model)), Stack())
    again.load_state_dict(small.state_dict())
    assert again.hidden == small.hidden < 12
    torch.testing.assert_close(again.eval()(SEQUENCES), small.eval()(SEQUENCES))


class Apart(Stack):
    """A number for each, by chance the same."""

    def __init__(self):
        super().__init__()
        self.other = 12

    def states(self, x):
        return [torch.zeros(len(x), self.hidden), torch.zeros(len(x), self.other)]


class ByTheCells(Stack):
    def states(self, x):
        return [torch.zeros(len(x), cell.hidden_size) for cell in self.cells]


class ThreeByTheCells(ByTheCells):
    depth = 3


@pytest.mark.parametrize("kind", [Apart, ByTheCells, ThreeByTheCells])
def test_with_a_number_for_each_they_are_cut_each_for_itself(tools, kind):
    structure, small = tools.traced(kind(), SEQUENCES)
    assert [group.name for group in structure.groups if group.prunable] == [
        f"cells.{place}" for place in range(kind.depth)
    ]
    assert len({cell.hidden_size for cell in small.cells}) == kind.depth
    tools.check_values(tools.randomise(kind()), structure, SEQUENCES)


class Upper(Stack):
    inputs = 4


class Twice(nn.Module):
    """Two stacks with a number each."""

    def __init__(self):
        super().__init__()
        self.lower, self.upper = Stack(), Upper()

    def forward(self, x):
        return self.upper(self.lower(x)[:, None])


def test_two_stacks_are_two_groups(tools):
    structure, small = tools.traced(Twice(), SEQUENCES)
    assert [group.name for group in structure.groups if group.prunable] == [
        "lower.cells.0",
        "lower.head",
        "upper.cells.0",
    ]
    assert small.lower.hidden != small.upper.hidden
    tools.check_values(tools.randomise(Twice()), structure, SEQUENCES)


class BesideAFailure(Stack):
    """A layer of the same width that cannot be cut for another reason."""

    def __init__(self):
        super().__init__()
        self.fixed = nn.Linear(12, 12)

    def forward(self, x):
        head, self.head = self.head, nn.Identity()
        try:
            x = super().forward(x)
        finally:
            self.head = head
        return self.head(self.fixed(x).view(len(x), int("12")))


def test_a_layer_that_fails_for_another_reason_stays_whole_alone(tools):
    structure, _ = tools.traced(BesideAFailure(), SEQUENCES)
    assert [group.name for group in structure.groups if group.prunable] == ["cells.0"]
    assert "counts on its width" in tools.reasons_of(structure)["fixed"]
