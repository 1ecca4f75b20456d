"""Pairs of two neighbouring channels, as rotary embeddings turn them: both go, or neither."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from amc.tracing.rules_position import UNEQUAL

GENERATOR = torch.Generator().manual_seed(1)
TOKENS = torch.randn(1, 5, 6, generator=GENERATOR)
OTHERS = (torch.randn(3, 5, 6, generator=GENERATOR), -TOKENS)


def angles(width):
    return torch.arange(5)[:, None] / 100 ** (torch.arange(0, width, 2) / width)


def by_slices(net, x):
    even, odd = x[..., ::2], x[..., 1::2]
    return torch.stack([even * net.cos - odd * net.sin, even * net.sin + odd * net.cos], -1).flatten(-2)


def by_unbinding(net, x):
    even, odd = x.reshape(*x.shape[:-1], -1, 2).unbind(-1)
    return torch.stack([even * net.cos - odd * net.sin, even * net.sin + odd * net.cos], -1).flatten(-2)


def by_writing(net, x):
    out, even, odd = torch.empty_like(x), x[..., ::2], x[..., 1::2]
    out[..., ::2] = even * net.cos - odd * net.sin
    out[..., 1::2] = even * net.sin + odd * net.cos
    return out


def by_turning_every_two(net, x):
    turned = torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2)
    return x * net.cos.repeat_interleave(2, -1) + turned * net.sin.repeat_interleave(2, -1)


def as_complex(net, x):
    pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * torch.complex(net.cos, net.sin)).flatten(-2).type_as(x)


class Turned(nn.Module):
    """A layer whose channels are turned in pairs."""

    def __init__(self, turn, width=16):
        super().__init__()
        self.turn, self.first, self.head = turn, nn.Linear(6, width), nn.Linear(width, 3)
        self.register_buffer("cos", angles(width).cos())
        self.register_buffer("sin", angles(width).sin())

    def forward(self, x):
        return self.head(self.turn(self, self.first(x)).relu())


class Attention(Turned):
    """Attention whose queries and keys are turned in pairs."""

    def __init__(self, turn):
        super().__init__(turn, 8)
        self.heads = 4
        self.query, self.key, self.value = (nn.Linear(6, 32) for _ in range(3))
        self.first, self.head = nn.Identity(), nn.Linear(32, 3)

    def forward(self, x):
        split = (layer(x).view(*x.shape[:2], self.heads, -1) for layer in (self.query, self.key, self.value))
        query, key, value = (each.transpose(1, 2) for each in split)
        query, key = self.turn(self, query), self.turn(self, key)
        weights = (query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).softmax(-1)
        return self.head((weights @ value).transpose(1, 2).flatten(2))


TURNS = [by_slices, by_unbinding, by_writing, by_turning_every_two, as_complex]


@pytest.mark.parametrize("turn", TURNS)
def test_channels_that_are_turned_in_pairs_go_in_pairs(tools, turn):
    model = Turned(turn)
    structure, small = tools.traced(model, TOKENS)
    (group,) = (structure.groups[index] for index in structure.prunable)
    assert group.channels == 8
    assert group.cuts[0].positions == tuple((2 * pair, 2 * pair + 1) for pair in range(8))
    assert small.cos.shape[-1] == small.first.out_features // 2 < 8
    tools.check_values(model, structure, TOKENS, *OTHERS)


@pytest.mark.parametrize("turn", TURNS)
def test_heads_with_rotary_embeddings_are_cut_whole(tools, turn):
    model = Attention(turn)
    structure, small = tools.traced(model, TOKENS)
    assert [group.channels for group in structure.groups if group.prunable] == [4]
    assert small.query.out_features == small.head.in_features == 8 * small.heads
    tools.check_values(model, structure, TOKENS, *OTHERS)


def the_larger_of_two(net, x):
    return torch.cat([torch.maximum(x[..., ::2], x[..., 1::2]), x[..., ::2]], -1)


def length_and_angle(net, x):
    pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
    return torch.cat([pairs.abs(), pairs.abs() * 2], -1)


@pytest.mark.parametrize("turn", [the_larger_of_two, length_and_angle])
def test_pairs_that_become_one_channel_go_in_pairs(tools, turn):
    model = Turned(turn)
    structure, small = tools.traced(model, TOKENS)
    assert structure.groups[0].cuts[0].positions == tuple((2 * pair, 2 * pair + 1) for pair in range(8))
    assert small.head.in_features == small.first.out_features < 16
    tools.check_values(model, structure, TOKENS, *OTHERS)


def test_every_second_of_an_odd_number_stays_whole_with_the_remedy(tools):
    structure, _ = tools.traced(Turned(lambda net, x: torch.cat([x[..., ::2], x[..., 1::2]], -1), 15), TOKENS)
    assert tools.reasons_of(structure)["first"] == UNEQUAL


def test_angles_that_depend_on_the_width_stay_whole_with_the_remedy(tools):
    def turn(net, x):
        net.cos, net.sin = angles(x.shape[-1]).cos(), angles(x.shape[-1]).sin()
        return by_slices(net, x)

    structure, _ = tools.traced(Turned(turn), TOKENS)
    assert "follow its width" in tools.reasons_of(structure)["first"]
