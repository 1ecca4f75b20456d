"""Which axis carries the channels where code splits or interleaves them: maps, pixels, pieces, groups."""

from __future__ import annotations

import pytest
import torch
from torch import nn

NOISE = torch.randn(1, 10, generator=torch.Generator().manual_seed(1))
IMAGE = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(2))


class Generator(nn.Module):
    """A linear layer whose features become a map, as in networks that draw images."""

    def __init__(self, to_map, channels):
        super().__init__()
        self.channels, self.to_map, self.unflatten = channels, to_map, nn.Unflatten(1, (channels, 4, 4))
        self.features, self.up = nn.Linear(10, channels * 16), nn.ConvTranspose2d(channels, 8, 4, 2, 1)
        self.out = nn.Conv2d(8, 3, 3)

    def forward(self, z):
        return self.out(self.up(self.to_map(self, self.features(z)).relu()).relu())


@pytest.mark.parametrize("channels", [2, 4, 16])
@pytest.mark.parametrize(
    "to_map",
    [
        lambda self, x: x.view(len(x), -1, 4, 4),
        lambda self, x: x.view(-1, self.channels, 4, 4),
        lambda self, x: x.unflatten(1, (-1, 4, 4)),
        lambda self, x: self.unflatten(x),
    ],
    ids=["the rest", "own number", "unflatten", "layer"],
)
def test_all_features_of_a_channel_of_a_map_go_together(tools, to_map, channels):
    structure, small = tools.traced(Generator(to_map, channels), NOISE)
    group = tools.groups_of(structure)["features"]
    assert (group.prunable, group.channels) == (True, channels)
    assert small.features.out_features == 16 * small.up.in_channels


def to_space(x, size=2):
    n, c, h, w = x.shape
    pixels = x.view(n, c // size**2, size, size, h, w).permute(0, 1, 4, 2, 5, 3)
    return pixels.reshape(n, c // size**2, h * size, w * size)


def to_space_pixels_first(x, size=2):
    n, c, h, w = x.shape
    pixels = x.view(n, size, size, c // size**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return pixels.reshape(n, c // size**2, h * size, w * size)


def to_depth(x, size=2):
    n, c, h, w = x.shape
    pixels = x.view(n, c, h // size, size, w // size, size).permute(0, 1, 3, 5, 2, 4)
    return pixels.reshape(n, c * size**2, h // size, w // size)


def interleaved(x):
    return torch.stack((x, x.tanh()), 2).flatten(1, 2)


def one_after_the_other(x):
    return torch.stack((x, x.tanh()), 1).flatten(1, 2)


def largest_of_pairs(x):
    n, c, h, w = x.shape
    return x.view(n, c // 2, 2, h, w).amax(2)


def shuffled(x, groups=4):
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


@pytest.mark.parametrize(
    ("operator", "width", "channels"),
    [
        (to_space, 8, 8),
        (to_space_pixels_first, 8, 8),
        (to_depth, 128, 32),
        (interleaved, 64, 32),
        (one_after_the_other, 64, 32),
        (largest_of_pairs, 16, 16),
        (shuffled, 32, 8),
    ],
)
def test_channels_that_are_interleaved_by_hand_are_cut(tools, operator, width, channels):
    class Between(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 32, 1), nn.Conv2d(width, 4, 1)

        def forward(self, x):
            return self.second(operator(self.first(x)))

    structure, _ = tools.traced(Between(), IMAGE)
    group = tools.groups_of(structure)["first"]
    assert (group.prunable, group.channels) == (True, channels)


def test_channels_whose_positions_are_mixed_are_cut(tools):
    class SpatialGate(nn.Module):
        """Half of the channels gate the others, after a layer over the positions, as in gMLP."""

        def __init__(self):
            super().__init__()
            self.into, self.norm, self.mix = nn.Linear(5, 16), nn.LayerNorm(8), nn.Linear(6, 6)
            self.back = nn.Linear(8, 4)

        def forward(self, x):
            gated, gate = self.into(x).relu().chunk(2, dim=-1)
            return self.back(gated * self.mix(self.norm(gate).transpose(1, 2)).transpose(1, 2))

    structure, small = tools.traced(SpatialGate(), torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(3)))
    assert [(group.name, group.channels) for group in structure.groups if group.prunable] == [("into", 8)]
    assert small.into.out_features == 2 * small.back.in_features < 16
    assert small.mix.weight.shape == (6, 6)


class Joined(nn.Module):
    """Two layers whose outputs are stacked, and laid side by side or apart again."""

    def __init__(self, join, width):
        super().__init__()
        self.join = join
        self.first, self.second, self.last = nn.Conv2d(3, 12, 1), nn.Conv2d(3, 12, 1), nn.Conv2d(width, 4, 1)

    def forward(self, x):
        return self.last(self.join(self.first(x), self.second(x)))


def summed_apart(left, right):
    left, right = torch.stack((left, right)).unbind(0)
    return left.sigmoid() * right


@pytest.mark.parametrize(
    ("join", "width"),
    [
        (lambda left, right: torch.stack((left, right), 2).flatten(1, 2), 24),
        (lambda left, right: torch.stack((left, right), 1).flatten(1, 2), 24),
        (lambda left, right: torch.stack((left, right), 2).reshape(len(left), -1, *left.shape[2:]), 24),
        (lambda left, right: torch.stack((left, right, left), -3).flatten(1, 2), 36),
        (summed_apart, 12),
    ],
    ids=["interleaved", "one after the other", "reshaped", "three", "apart again"],
)
def test_layers_that_are_stacked_lose_the_same_channels(tools, join, width):
    structure, small = tools.traced(Joined(join, width), IMAGE)
    group = tools.groups_of(structure)["first"]
    assert (group.prunable, group.channels, group.writers) == (True, 12, ("first", "second"))
    assert small.last.in_channels == width // 12 * small.first.out_channels < width


class Tokens(nn.Module):
    """Features of tokens that are taken apart with `unbind`, their number in the code or in their shape."""

    def __init__(self):
        super().__init__()
        self.into, self.last = nn.Linear(5, 32), nn.Linear(16, 4)


class Halves(Tokens):
    def forward(self, x):
        left, right = self.into(x).unflatten(-1, (2, 16)).unbind(-2)
        return self.last(left * right)


class Pairs(Tokens):
    def forward(self, x):
        y = self.into(x)
        left, right = y.view(*y.shape[:-1], y.shape[-1] // 2, 2).unbind(-1)
        return self.last(left.tanh() - right)


class Steps(Tokens):
    def forward(self, x):
        state = 0
        for step in self.into(x).unbind(1):
            state = (state + step).relu()
        left, right = state.chunk(2, -1)
        return self.last(left * right)


@pytest.mark.parametrize("kind", [Halves, Pairs, Steps])
def test_what_unbind_takes_apart_is_cut(tools, kind):
    structure, small = tools.traced(kind(), torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(3)))
    assert [(group.name, group.channels) for group in structure.groups if group.prunable] == [("into", 16)]
    assert small.into.out_features == 2 * small.last.in_features < 32


def test_patches_of_tokens_that_become_pixels_are_cut(tools):
    class Decoder(nn.Module):
        """Every token draws a square of four pixels, the channels last."""

        def __init__(self):
            super().__init__()
            self.into, self.last = nn.Linear(5, 32), nn.Conv2d(8, 4, 1)

        def forward(self, x):
            y = self.into(x)
            squares = y.view(len(y), 3, 2, 2, 2, y.shape[-1] // 4)
            return self.last(squares.permute(0, 1, 3, 2, 4, 5).reshape(len(y), 6, 4, -1).permute(0, 3, 1, 2))

    structure, small = tools.traced(Decoder(), torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(3)))
    assert [(group.name, group.channels) for group in structure.groups if group.prunable] == [("into", 8)]
    assert small.into.out_features == 4 * small.last.in_channels < 32
