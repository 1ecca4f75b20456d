"""Recurrent layers and cells: the width of their state is a group, whatever the gates, layers and directions."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from amc.structure.slicing import cut
from amc.tracing.recurrent import AS_WIDE

SEQUENCE = torch.randn(1, 5, 4, generator=torch.Generator().manual_seed(1))
ARGUMENTS = ("input_size", "hidden_size", "num_layers", "batch_first", "bidirectional", "proj_size")
GATES = {nn.LSTM: 4, nn.GRU: 3, nn.RNN: 1, nn.LSTMCell: 4, nn.GRUCell: 3, nn.RNNCell: 1}


class Layers(nn.Module):
    def __init__(self, kind, **options):
        super().__init__()
        self.embed, self.layers = nn.Linear(4, 6), kind(6, 8, batch_first=True, **options)
        self.head = nn.Linear(16 if options.get("bidirectional") else 8, 3)

    def forward(self, x):
        return self.head(self.layers(self.embed(x))[0][:, -1])


class Cells(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.embed, self.cell, self.head = nn.Linear(4, 6), kind(6, 8), nn.Linear(8, 3)

    def forward(self, x):
        state = None
        for time in range(x.shape[1]):
            state = self.cell(self.embed(x[:, time]), state)
        return self.head(state[0] if isinstance(state, tuple) else state)


@pytest.mark.parametrize(
    "options",
    [{}, {"bias": False}, {"num_layers": 2}, {"bidirectional": True}, {"num_layers": 2, "bidirectional": True}],
    ids=str,
)
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_states_of_all_layers_and_directions_are_one_group(tools, kind, options):
    structure, small = tools.traced(Layers(kind, **options), SEQUENCE)
    assert [group.channels for group in structure.groups if group.prunable] == [6, 8]
    assert not any(group.residual for group in structure.groups)  # no sum of what different layers write
    layers = small.layers
    assert layers.weight_hh_l0.shape == (GATES[kind] * layers.hidden_size, layers.hidden_size)
    assert small.head.in_features == layers.hidden_size * (1 + layers.bidirectional) < 16
    assert small(SEQUENCE.repeat(2, 2, 1)).shape == (2, 3)


@pytest.mark.parametrize("kind", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_states_of_cells_are_cut_from_the_first_step_on(tools, kind):
    structure, small = tools.traced(Cells(kind), SEQUENCE)
    assert [group.channels for group in structure.groups if group.prunable] == [6, 8]
    assert not any(group.residual for group in structure.groups)
    assert small.cell.weight_hh.shape == (GATES[kind] * small.cell.hidden_size, small.cell.hidden_size)


def test_an_encoder_ahead_of_a_recurrent_layer_is_cut(tools):
    class Reader(nn.Module):
        """Convolutions whose columns are read one after the other."""

        def __init__(self):
            super().__init__()
            self.look, self.read = nn.Conv2d(3, 8, 3, padding=1), nn.LSTM(64, 8, 2, batch_first=True)
            self.head = nn.Linear(8, 3)

        def forward(self, x):
            return self.head(self.read(self.look(x).relu().permute(0, 3, 1, 2).flatten(2))[0].mean(1))

    structure, small = tools.traced(Reader(), torch.randn(1, 3, 8, 8))
    assert [group.channels for group in structure.groups if group.prunable] == [8, 8]
    assert small.read.input_size == 8 * small.look.out_channels


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        *[(kind, {}) for kind in (nn.LSTM, nn.GRU, nn.RNN)],
        *[(kind, {"num_layers": 2, "bidirectional": True}) for kind in (nn.LSTM, nn.GRU, nn.RNN)],
        (nn.LSTM, {"proj_size": 3}),
        (nn.LSTM, {"proj_size": 3, "num_layers": 2}),
    ],
)
def test_an_example_of_one_step_couples_the_state_with_what_the_next_step_reads(tools, kind, options):
    """Otherwise the weights of the state stay wide, which oneDNN's LSTM reads as if they were narrow."""
    network = Layers(kind, **options)
    network.head = nn.Linear(options.get("proj_size", network.head.in_features), 3)
    _, small = tools.traced(network, SEQUENCE[:, :1])
    layers = small.layers
    state = layers.proj_size or layers.hidden_size
    assert layers.weight_hh_l0.shape == (GATES[kind] * layers.hidden_size, state)
    assert state < options.get("proj_size", 8)
    assert small(SEQUENCE).shape == (1, 3)


@pytest.mark.parametrize("kind", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_cells_that_run_for_one_step_are_cut(tools, kind):
    _, small = tools.traced(Cells(kind), SEQUENCE[:, :1])
    assert small.cell.weight_hh.shape == (GATES[kind] * small.cell.hidden_size, small.cell.hidden_size)
    assert small.cell.hidden_size < 8
    assert small(SEQUENCE).shape == (1, 3)


def test_the_cells_of_a_projecting_lstm_stay_wider_than_its_state(tools):
    """PyTorch tells that an LSTM projects by two widths that differ; as wide, it takes one weight for another."""
    network = Layers(nn.LSTM, proj_size=5)
    network.head = nn.Linear(5, 3)
    structure, small = tools.traced(network, SEQUENCE)
    assert tools.reasons_of(structure)["layers"] == AS_WIDE
    assert small.layers.hidden_size == 8
    assert small.layers.proj_size == small.head.in_features < 5


@pytest.mark.parametrize("options", [{}, {"num_layers": 2}, {"bidirectional": True}], ids=str)
def test_a_projection_is_valid_at_every_width(tools, options):
    """PyTorch wants 0 < proj_size < hidden_size; what is left of the projection decides what the dense one does."""
    network = Layers(nn.LSTM, proj_size=7, **options)
    network.head = nn.Linear(14 if options.get("bidirectional") else 7, 3)
    structure, _ = tools.traced(network, SEQUENCE)
    (index,) = (index for index in structure.prunable if structure.groups[index].channels == 7)
    for width in range(1, 8):
        small = copy.deepcopy(network)
        cut(small, structure, {index: torch.arange(width)})
        fresh = nn.LSTM(**{name: getattr(small.layers, name) for name in ARGUMENTS})
        fresh.load_state_dict(small.layers.state_dict())
        read = small.embed(SEQUENCE.repeat(2, 1, 1))
        torch.testing.assert_close(fresh(read)[0], small.layers(read)[0])
        assert (fresh.proj_size, fresh.hidden_size) == (width, 8)
    tools.check_values(network, structure, SEQUENCE, SEQUENCE.repeat(2, 2, 1))


class Skipping(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.layers, self.head = nn.Linear(4, 8), nn.GRU(8, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, x):
        x = self.embed(x)
        return self.head(x + self.layers(x)[0])


def test_a_recurrent_layer_that_is_added_to_its_input_writes_to_a_stream(tools):
    structure, _ = tools.traced(Skipping(), SEQUENCE)
    assert [group.residual for group in structure.groups if group.channels == 8] == [True]
