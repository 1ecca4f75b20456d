"""What a structure tells of every layer."""

from __future__ import annotations

import torch
from torch import nn

from amc.tracing.trace import trace_structure

IMAGE = torch.randn(1, 3, 8, 8)


class Block(nn.Module):
    """A residual block; with `read_twice`, a layer's output goes past its batch norm too."""

    def __init__(self, read_twice):
        super().__init__()
        self.read_twice = read_twice
        self.stem = nn.Conv2d(3, 6, 3, stride=2, padding=1, bias=False)
        self.first = nn.Sequential(nn.Conv2d(6, 8, (1, 3)), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.last = nn.Conv2d(8, 6, (1, 1), padding=(0, 1), bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.shortcut = nn.Conv2d(6, 6, 1)
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        x = self.stem(x)
        raw = self.last(self.first(x))
        y = self.norm(raw) + self.shortcut(x)
        if self.read_twice:
            y = y + raw.mean()
        return self.head(torch.relu(y).mean((2, 3)))


def layers_of(*, read_twice=False):
    return {layer.name: layer for layer in trace_structure(Block(read_twice), IMAGE).layers}


def test_layers_are_described_in_the_order_of_execution():
    layers = layers_of()
    assert list(layers) == ["stem", "first.0", "last", "shortcut", "head"]
    stem, first, head = layers["stem"], layers["first.0"], layers["head"]
    assert (stem.kind, stem.kernel_size, stem.stride, stem.input_size) == ("conv", (3, 3), (2, 2), (8, 8))
    assert (stem.in_channels, stem.out_channels, stem.weight_shape) == (3, 6, (6, 3, 3, 3))
    assert (stem.flops, stem.params) == (16 * 27 * 6, 27 * 6)
    assert (first.kernel_size, first.input_size, first.params) == ((1, 3), (4, 4), 18 * 8 + 8)
    assert first.flops == 4 * 2 * 18 * 8
    assert (head.kind, head.kernel_size, head.flops, head.params) == ("linear", (1, 1), 24, 28)
    assert stem.reads == ()
    assert first.reads == (stem.writes,)


def test_the_batch_norm_that_alone_reads_a_layer_is_named():
    layers = layers_of()
    assert [layers[name].batch_norm for name in ("stem", "first.0", "last", "head")] == [None, "first.1", "norm", None]


def test_a_batch_norm_that_is_not_the_only_reader_is_not_named():
    layers = layers_of(read_twice=True)
    assert layers["last"].batch_norm is None
    assert layers["first.0"].batch_norm == "first.1"


def test_sequences_have_a_length_and_calls_are_counted():
    shared = nn.Linear(6, 6)
    model = nn.Sequential(nn.Linear(5, 6), shared, nn.ReLU(), shared, nn.Linear(6, 2))
    layers = {layer.name: layer for layer in trace_structure(model, torch.randn(1, 7, 5)).layers}
    assert layers["0"].input_size == (7, 1)
    assert (layers["1"].calls, layers["1"].flops) == (2, 2 * 7 * 36)


def test_transposed_convolutions_count_their_input_positions(tools):
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ConvTranspose2d(4, 6, 2, stride=2), nn.Conv2d(6, 2, 1))
    structure, _ = tools.traced(model, IMAGE)
    layer = structure.layers[1]
    assert layer.flops == 64 * 4 * 4 * 6
    assert (layer.in_channels, layer.out_channels, layer.params) == (4, 6, 4 * 4 * 6 + 6)


def test_embeddings_and_parts_of_weights_are_layers_of_their_own_kind(tools):
    class Text(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.memory = nn.Embedding(30, 8), nn.Embedding(20, 8)
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
            self.projection = nn.Parameter(torch.randn(8, 5))
            self.head = nn.Linear(5, 3)

        def forward(self, tokens, other):
            memory = self.memory(other)
            return self.head(self.attention(self.words(tokens), memory, memory)[0] @ self.projection)

    example = {"tokens": torch.randint(0, 30, (1, 4)), "other": torch.randint(0, 20, (1, 7))}
    model = Text()
    structure = trace_structure(tools.randomise(model), example)
    layers = {layer.name: layer for layer in structure.layers}
    assert list(layers) == ["memory", "words", "attention", "attention.out_proj", "projection", "head"]
    words, attention, projection = layers["words"], layers["attention"], layers["projection"]
    assert (words.kind, words.in_channels, words.out_channels, words.flops) == ("embedding", 30, 8, 0)
    assert words.params == 240
    assert (attention.kind, attention.weight) == ("attention", "attention.in_proj_weight")
    assert (attention.calls, attention.params) == (3, 24 * 8 + 24)
    assert attention.flops == (4 + 7 + 7) * 8 * 8
    assert (projection.weight, projection.kind, projection.params) == ("projection", "linear", 40)
    tools.check_costs(model, structure, example)
