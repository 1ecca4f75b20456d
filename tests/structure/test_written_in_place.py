"""Channels that are written into other tensors, item by item, and padded sequences that are packed and unpacked."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import rnn

SEQUENCE = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(1))


class Written(nn.Module):
    """A layer whose output is written somewhere, and one that reads it there."""

    def __init__(self, operator, width=8):
        super().__init__()
        self.operator, self.width = operator, 8
        self.embed, self.other, self.head = nn.Linear(4, 8), nn.Linear(4, 8), nn.Linear(width, 3)
        self.register_buffer("cache", torch.zeros(3, 5, 8))

    def forward(self, x):
        return self.head(self.operator(self, x))


class ByNumber(Written):
    def forward(self, x):
        out = torch.zeros(3, 5, 8)
        for time in range(5):
            out[:, time] = self.embed(x[:, time])
        return self.head(out)


def step_by_step(model, x):
    y = model.embed(x)
    out = torch.zeros_like(y)
    for time in range(x.shape[1]):
        out[:, time] = y[:, time].tanh()
    return out


def into_fewer_axes(model, x):
    y = model.embed(x)
    out = y.new_zeros(y.shape[-1], len(x))
    for item in range(len(x)):
        out[:, item] = y[item].mean(0)
    return out.t()


def some_steps(model, x):
    y = model.embed(x)
    out = y.new_ones(len(x), 7, y.shape[-1])
    out[:, 1:6] = y
    return out


def over_another(model, x):
    y = model.embed(x)
    y[:, 0] = model.other(x[:, 0])
    return y.relu()


def remembered_width(model, x):
    out = torch.empty(len(x), 5, model.width)
    out[:] = model.embed(x)
    return out


@pytest.mark.parametrize("operator", [step_by_step, into_fewer_axes, some_steps, over_another, remembered_width])
def test_channels_that_fill_a_tensor_are_cut(tools, operator):
    structure, small = tools.traced(Written(operator), SEQUENCE)
    group = tools.groups_of(structure)["embed"]
    assert (group.prunable, group.channels) == (True, 8)
    assert small.embed.out_features == small.head.in_features < 8


def test_layers_that_write_into_one_tensor_lose_the_same_channels(tools):
    structure, _ = tools.traced(Written(over_another), SEQUENCE)
    assert tools.groups_of(structure)["embed"].writers == ("embed", "other")


def test_a_width_that_the_code_gives_to_the_tensor_follows(tools):
    _, small = tools.traced(ByNumber(None), SEQUENCE)
    assert small.embed.out_features == small.head.in_features < 8


def into_a_buffer(model, x):
    model.cache[:] = model.embed(x)
    return model.cache + 0


def test_what_a_network_keeps_in_a_buffer_stays_whole_with_the_reason(tools):
    structure, _ = tools.traced(Written(into_a_buffer), SEQUENCE)
    assert tools.reasons_of(structure)["embed"] == "written into 'cache', which the network keeps"


LENGTHS = torch.tensor([4, 5, 2])


class Packed(nn.Module):
    """A recurrent layer that skips the padding of its sequences."""

    def __init__(self, kind, *, batch_first=True, **options):
        super().__init__()
        self.embed, self.layers = nn.Linear(4, 6), kind(6, 8, batch_first=batch_first, **options)
        self.batch_first, self.head = batch_first, nn.Linear(16 if options.get("bidirectional") else 8, 3)

    def forward(self, x):
        y = self.embed(x if self.batch_first else x.transpose(0, 1))
        options = {"batch_first": self.batch_first}
        steps, _ = self.layers(rnn.pack_padded_sequence(y, LENGTHS, enforce_sorted=False, **options))
        y, _ = rnn.pad_packed_sequence(steps, total_length=6, **options)
        return self.head(y.mean(1 if self.batch_first else 0))


@pytest.mark.parametrize(
    "options", [{}, {"batch_first": False}, {"num_layers": 2, "bidirectional": True}], ids=["", "time first", "layers"]
)
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_packed_sequences_are_cut(tools, kind, options):
    structure, small = tools.traced(Packed(kind, **options), SEQUENCE)
    assert [group.channels for group in structure.groups if group.prunable] == [6, 8]
    assert small.layers.input_size == small.embed.out_features < 6
    assert small.layers.hidden_size * (1 + small.layers.bidirectional) == small.head.in_features


def test_the_last_state_of_packed_sequences_is_cut(tools):
    class Last(Packed):
        def forward(self, x):
            packed = rnn.pack_padded_sequence(self.embed(x), LENGTHS, batch_first=True, enforce_sorted=False)
            return self.head(self.layers(packed)[1][-1])

    structure, small = tools.traced(Last(nn.GRU), SEQUENCE)
    assert [group.channels for group in structure.groups if group.prunable] == [6, 8]
    assert small.head.in_features == small.layers.hidden_size < 8


def test_sequences_that_are_padded_from_a_list_are_cut(tools):
    class Listed(Packed):
        def forward(self, x):
            items = [self.embed(item[:length]) for item, length in zip(x, LENGTHS.tolist(), strict=True)]
            y, _ = self.layers(rnn.pad_sequence(items, batch_first=True))
            return self.head(y.mean(1))

    structure, small = tools.traced(Listed(nn.GRU), SEQUENCE)
    assert [group.channels for group in structure.groups if group.prunable] == [6, 8]
    assert small.layers.input_size == small.embed.out_features < 6


def test_channels_along_the_steps_of_a_packed_sequence_stay_whole(tools):
    class Along(Packed):
        """Reads the five features of a layer as five steps."""

        def __init__(self):
            super().__init__(nn.GRU)
            self.wide = nn.Linear(4, 30)

        def forward(self, x):
            y = self.wide(x[:, 0]).reshape(3, 30, 1).expand(3, 30, 6)
            return self.head(self.layers(rnn.pack_padded_sequence(y, [30, 30, 30], batch_first=True))[1][-1])

    structure, _ = tools.traced(Along(), SEQUENCE)
    assert "in a way that its coupling rule does not cover" in tools.reasons_of(structure)["wide"]
