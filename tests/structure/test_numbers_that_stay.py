"""Numbers in the code that do not follow a cut, or follow another: equal by chance, with two meanings, not readable."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from amc.structure.numbers_in_code import numbers_in_code

GENERATOR = torch.Generator().manual_seed(1)
IMAGE = torch.randn(1, 3, 8, 8, generator=GENERATOR)
NOISE = torch.randn(1, 6, generator=GENERATOR)


def prunable(structure):
    return {group.name: group.channels for group in structure.groups if group.prunable}


class Tempered(nn.Module):
    """Has its width in the code three times; two are none."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1), nn.Linear(4, 3)

    def forward(self, x):
        if len(x) > 8:
            x = x[:8]
        x = self.second(self.first(x).relu().flatten(2).view(-1, 8, 8, 8))
        for _ in range(8):
            x = x * 1.1
        return self.last(x.mean((2, 3)) / 8)


def test_numbers_that_happen_to_equal_the_width_stay(tools):
    structure, small = tools.traced(Tempered(), IMAGE)
    assert prunable(structure) == {"first": 8, "second": 4}
    changed = {name: value for name, value in numbers_in_code(small) if name.endswith("=8") and value != 8}
    assert list(changed.values()) == [small.first.out_channels]
    assert small(IMAGE.repeat(9, 1, 1, 1)).shape == (8, 3)


class Scaled(nn.Module):
    """Has one number for its width and for something else."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        width = 8
        return self.second(self.first(x).relu().flatten(2).view(-1, width, *x.shape[2:]) * width)


class Reused(nn.Module):
    """One line of code, and one number, for two layers."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1)])
        self.last = nn.Conv2d(8, 4, 1)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x).relu().flatten(2).view(-1, 8, 8, 8)
        return self.last(x)


@pytest.mark.parametrize(("network", "group"), [(Scaled, "first"), (Reused, "layers.0")])
def test_one_number_with_two_meanings_keeps_the_group_whole(tools, network, group):
    structure, small = tools.traced(network(), IMAGE)
    assert tools.reasons_of(structure)[group].startswith("the network's code counts on its width: ")
    assert type(small) is network


class Twice(nn.Module):
    """Two layers of one width, each with a number of its own."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        x = self.first(x).relu().flatten(2).view(-1, 8, *x.shape[2:])
        x = self.second(x).relu().flatten(2).view(-1, 8, *x.shape[2:])
        return self.last(x)


def test_equal_numbers_follow_their_own_layers(tools):
    structure, small = tools.traced(Twice(), IMAGE)
    assert prunable(structure) == {"first": 8, "second": 8}
    assert [value for name, value in numbers_in_code(small) if name.endswith("=8")] == [
        small.first.out_channels,
        small.second.out_channels,
    ]
    assert small.first.out_channels != small.second.out_channels


class Block(nn.Module):
    def __init__(self, inputs):
        super().__init__()
        self.inner, self.outer = nn.Conv2d(inputs, 8, 1), nn.Conv2d(8, 5, 1)

    def forward(self, x):
        return self.outer(self.inner(x).relu().flatten(2).view(-1, 8, 8, 8))


def test_repeated_blocks_have_numbers_of_their_own(tools):
    model = nn.Sequential(Block(3), Block(5), Block(5), nn.Conv2d(5, 2, 1))
    structure, small = tools.traced(model, IMAGE)
    assert sum(channels == 8 for channels in prunable(structure).values()) == 3
    widths = [block.inner.out_channels for block in small[:3]]
    assert [next(v for name, v in numbers_in_code(block) if name.endswith("=8")) for block in small[:3]] == widths
    assert len(set(widths)) > 1


class Bounded(nn.Module):
    """Takes at most as many channels as there are."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        return self.second(self.first(x).relu()[:, :8])


def test_a_slice_that_takes_everything_stays(tools):
    structure, small = tools.traced(Bounded(), IMAGE)
    assert prunable(structure) == {"first": 8}
    assert type(small) is Bounded


def test_code_without_source_keeps_the_group_whole(tools):
    names = {"nn": nn, "Bounded": Bounded}
    exec(
        "class Unseen(Bounded):\n"
        "    def forward(self, x):\n"
        "        return self.second(self.first(x).flatten(2).view(-1, 8, 8, 8))\n",
        names,
    )
    structure, _ = tools.traced(names["Unseen"](), IMAGE)
    assert tools.reasons_of(structure)["first"].startswith("the network's code counts on its width: ")


def test_code_that_is_wrapped_is_not_read():
    class Wrapped(Bounded):
        @torch.no_grad()
        def forward(self, x):
            return self.second(self.first(x)[:, :8])

    assert dict(numbers_in_code(Wrapped())) == {}
