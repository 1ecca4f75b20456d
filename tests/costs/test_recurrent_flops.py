"""FLOPs of recurrent layers, counted by hand: every gate reads the input and the state once a step."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from amc.costs.counting import count_flops, operators_by_own_rule, uncounted_operators

GATES = {nn.LSTM: 4, nn.GRU: 3, nn.RNN: 1, nn.LSTMCell: 4, nn.GRUCell: 3, nn.RNNCell: 1}
IN, WIDTH, STEPS, BATCH = 6, 8, 5, 2


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_layers_and_directions(kind, layers, directions, bias):
    model = kind(IN, WIDTH, layers, bidirectional=directions == 2, bias=bias)
    first, later = IN + WIDTH, directions * WIDTH + WIDTH
    a_step = GATES[kind] * WIDTH * directions * (first + (layers - 1) * later)
    assert count_flops(model, torch.randn(STEPS, BATCH, IN)) == STEPS * BATCH * a_step


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_plain_layers_of_either_kind(nonlinearity):
    model = nn.RNN(IN, WIDTH, nonlinearity=nonlinearity, batch_first=True)
    assert count_flops(model, torch.randn(BATCH, STEPS, IN)) == BATCH * STEPS * WIDTH * (IN + WIDTH)
    assert operators_by_own_rule(model, torch.randn(BATCH, STEPS, IN)) == {f"rnn_{nonlinearity}": 1}
    assert uncounted_operators(model, torch.randn(BATCH, STEPS, IN)) == {}


def test_a_projection_narrows_the_state():
    model, projected = nn.LSTM(IN, WIDTH, proj_size=3), 3
    a_step = 4 * WIDTH * (IN + projected) + WIDTH * projected
    assert count_flops(model, torch.randn(STEPS, BATCH, IN)) == STEPS * BATCH * a_step


@pytest.mark.parametrize("kind", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_cells_are_counted_at_every_step(kind):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = kind(IN, WIDTH)

        def forward(self, x):
            state = self.cell(x[0], self.cell(x[1]))
            return state[0] if isinstance(state, tuple) else state

    model, x = Twice(), torch.randn(2, BATCH, IN)
    assert count_flops(model, x) == 2 * BATCH * GATES[kind] * WIDTH * (IN + WIDTH)
    assert operators_by_own_rule(model, x) == {}  # fvcore sees their products


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_of_packed_sequences_the_steps_that_are_there_count(kind):
    class Packed(nn.Module):
        def __init__(self):
            super().__init__()
            self.read = kind(IN, WIDTH)

        def forward(self, x):
            return self.read(pack_padded_sequence(x, torch.tensor([5, 2])))[0].data

    assert count_flops(Packed(), torch.randn(STEPS, 2, IN)) == (5 + 2) * GATES[kind] * WIDTH * (IN + WIDTH)
