"""Attention, embeddings and parameters that take part in arithmetic."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from amc.structure.sliceable import SliceableMultiheadAttention, make_sliceable
from amc.tracing.trace import trace_structure

TOKENS = torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(1))


class Encoder(nn.Module):
    """Patches, a class token, position embeddings, encoder layers and a head: a small vision transformer."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 12, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, 12))
        self.positions = nn.Parameter(torch.randn(1, 5, 12))
        layer = nn.TransformerEncoderLayer(12, 3, 20, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(12)
        self.head = nn.Linear(12, 4)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
        return self.head(self.norm(self.encoder(x))[:, 0])


class Scaled(nn.Module):
    """A block whose output is scaled by a parameter per channel, as in ConvNeXt and CaiT."""

    def __init__(self, shape):
        super().__init__()
        self.stem, self.inner, self.outer = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 9, 1), nn.Conv2d(9, 6, 1)
        self.scale = nn.Parameter(torch.ones(shape))
        self.head = nn.Conv2d(6, 2, 1)

    def forward(self, x):
        x = self.stem(x)
        return self.head(x + self.outer(self.inner(x)) * self.scale)


class WithAttention(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.before = nn.Linear(12, 12)
        self.attention = nn.MultiheadAttention(12, 3, **options)
        self.after = nn.Linear(12, 2)

    def forward(self, x, need_weights=False):
        x = self.before(x)
        return self.after(self.attention(x, x, x, need_weights=need_weights)[0])


@pytest.mark.parametrize("need_weights", [True, False])
def test_attention_loses_heads(tools, need_weights):
    model = WithAttention(batch_first=True)
    structure, small = tools.traced(model, {"x": TOKENS, "need_weights": need_weights})
    groups = tools.groups_of(structure)
    heads = groups["attention"]
    assert (heads.channels, heads.writers, heads.readers) == (3, ("attention",), ("attention.out_proj",))
    packed = next(cut for cut in heads.cuts if cut.tensor == "attention.in_proj_weight")
    first_head = {*range(0, 4), *range(12, 16), *range(24, 28)}  # query, key and value rows of 12 each, 4 a head
    assert set(packed.positions[0]) == first_head
    assert small.attention.num_heads == len(small.attention.out_proj.weight[0]) // 4 < 3
    assert groups["before"].channels == 12


def test_encoder_layers(tools):
    model = Encoder()
    structure, small = tools.traced(model, torch.randn(1, 3, 8, 8))
    groups = tools.groups_of(structure)
    stream = groups["patches"]
    assert (stream.channels, stream.residual, stream.normalised) == (12, True, True)
    assert {cut.tensor for cut in stream.cuts} >= {"token", "positions", "norm.weight"}
    assert {cut.tensor: cut.axis for cut in stream.cuts}["positions"] == 2
    assert groups["encoder.layers.0.linear1"].channels == 20
    assert groups["encoder.layers.1.self_attn"].channels == 3
    assert [group.name for group in structure.groups if not group.prunable] == ["head"]
    assert small.norm.normalized_shape == (small.patches.out_channels,)


@pytest.mark.parametrize("shape", [(6, 1, 1), (1, 6, 1, 1)])
def test_layer_scale_follows_the_channels(tools, shape):
    structure, small = tools.traced(Scaled(shape), torch.randn(1, 3, 4, 4))
    stream = tools.groups_of(structure)["stem"]
    cut = next(cut for cut in stream.cuts if cut.tensor == "scale")
    assert (cut.axis, cut.role) == (shape.index(6), "follow")
    assert small.scale.shape[cut.axis] == small.stem.out_channels


def test_a_parameter_that_meets_channels_on_two_axes_freezes_them(tools):
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(5, 6), nn.Linear(6, 2)
            self.weight = nn.Parameter(torch.randn(6, 6))

        def forward(self, x):
            x = self.a(x)
            return self.b(x * (self.weight + self.weight.t()))

    structure, _ = tools.traced(Mixed(), torch.randn(6, 5))
    expected = "one channel for all that b.weight reads"
    assert tools.reasons_of(structure)["a"] == expected


def test_what_an_unknown_operator_makes_of_a_parameter_is_tried_out(tools):
    class Diagonal(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(5, 6), nn.Linear(6, 4), nn.Linear(4, 2)
            self.weight = nn.Parameter(torch.randn(6, 6))

        def forward(self, x):
            return self.c(self.b(self.a(x) * self.weight.diagonal()))

    structure, _ = tools.traced(Diagonal(), torch.randn(3, 5))
    assert tools.reasons_of(structure)["a"].startswith("the network's code counts on its width")
    assert tools.groups_of(structure)["b"].prunable


def _padding():
    mask = torch.zeros(2, 5, dtype=torch.bool)
    mask[0, 3:] = True
    return mask


CAUSAL = nn.Transformer.generate_square_subsequent_mask(5)
CALLS = {
    "plain": {},
    "no weights": {"need_weights": False},
    "weights per head": {"average_attn_weights": False},
    "padding": {"key_padding_mask": _padding()},
    "float padding": {"key_padding_mask": _padding().float() * -3.0, "need_weights": False},
    "causal": {"attn_mask": CAUSAL, "is_causal": True, "need_weights": False},
    "causal with weights": {"attn_mask": CAUSAL, "is_causal": True},
    "boolean mask": {"attn_mask": torch.isinf(CAUSAL)},
    "mask per head": {"attn_mask": torch.randn(6, 5, 5), "need_weights": False},
    "both": {"attn_mask": torch.randn(6, 5, 5), "key_padding_mask": _padding().float() * -2.0},
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("options", [{}, {"batch_first": True}, {"bias": False}], ids=["rows", "batch", "no bias"])
def test_the_twin_of_attention_computes_the_same(name, options):
    attention = nn.MultiheadAttention(12, 3, **options).eval()
    twin = copy.deepcopy(attention)
    make_sliceable(twin)
    assert type(twin) is SliceableMultiheadAttention
    x = TOKENS if options.get("batch_first") else TOKENS.transpose(0, 1)
    for source in (x, torch.randn_like(x)):  # self-attention, then keys and values from elsewhere
        expected = attention(x, source, source, **CALLS[name])
        found = twin(x, source, source, **CALLS[name])
        torch.testing.assert_close(found[0], expected[0])
        if expected[1] is None:
            assert found[1] is None
        else:
            torch.testing.assert_close(found[1], expected[1])


def test_the_twin_takes_one_example_without_a_batch_axis():
    attention = nn.MultiheadAttention(12, 3).eval()
    twin = copy.deepcopy(attention)
    make_sliceable(twin)
    mask = torch.tensor([False, False, True, False, True])
    for found, expected in zip(
        twin(TOKENS[0], TOKENS[0], TOKENS[0], key_padding_mask=mask),
        attention(TOKENS[0], TOKENS[0], TOKENS[0], key_padding_mask=mask),
        strict=True,
    ):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("norm_first", [True, False])
def test_encoder_layers_compute_the_same_in_both_modes(norm_first):
    layer = nn.TransformerEncoderLayer(12, 3, 20, dropout=0.0, batch_first=True, norm_first=norm_first)
    twin = copy.deepcopy(layer)
    make_sliceable(twin)
    for training in (True, False):
        layer.train(training)
        twin.train(training)
        arguments = {"src": TOKENS, "src_key_padding_mask": _padding()}
        with torch.no_grad():
            expected, found = layer(**arguments), twin(**arguments)
        kept = ~_padding()  # PyTorch's fused layer zeroes what is padded away, and nothing reads that
        torch.testing.assert_close(found[kept], expected[kept])


def test_attention_with_further_keys_has_no_twin():
    for options in ({"add_bias_kv": True}, {"add_zero_attn": True}, {"kdim": 7}):
        attention = nn.MultiheadAttention(12, 3, **options)
        make_sliceable(attention)
        assert type(attention) is nn.MultiheadAttention


def test_attention_without_a_twin_is_left_whole_with_the_reason(tools):
    structure, _ = tools.traced(WithAttention(batch_first=True, add_zero_attn=True), {"x": TOKENS})
    groups = tools.groups_of(structure)
    assert groups["attention"].reason is not None
    assert "addressed by position" in groups["attention"].reason


def test_embeddings_write_channels(tools):
    class Text(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.places = nn.Embedding(30, 8), nn.Embedding(10, 8)
            self.inner, self.outer = nn.Linear(8, 16), nn.Linear(16, 8)
            self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 3)

        def forward(self, tokens):
            x = self.words(tokens) + self.places(torch.arange(tokens.shape[1]))
            return self.head(self.norm(x + self.outer(self.inner(x).relu())))

    structure, small = tools.traced(Text(), {"tokens": torch.randint(0, 30, (1, 6))})
    stream = tools.groups_of(structure)["words"]
    assert stream.writers == ("words", "places", "outer")
    assert stream.residual
    assert small.words.embedding_dim == small.words.weight.shape[1] < 8


def test_what_surrounds_a_recurrent_layer_is_cut_with_it(tools):
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.lstm, self.head = nn.Embedding(30, 8), nn.LSTM(8, 6, batch_first=True), nn.Linear(6, 3)
            self.inner = nn.Linear(3, 4)
            self.last = nn.Linear(4, 2)

        def forward(self, tokens):
            return self.last(self.inner(self.head(self.lstm(self.words(tokens))[0])))

    model = Recurrent()
    structure = trace_structure(model, torch.randint(0, 30, (1, 6)))
    groups = tools.groups_of(structure)
    assert [name for name, group in groups.items() if group.prunable] == ["words", "lstm", "head", "inner"]
    tools.check_costs(model, structure, torch.randint(0, 30, (1, 6)))


class FusedAttention(nn.Module):
    """Attention as timm writes it: sizes in attributes, a bias per head, and PyTorch's fused product."""

    def __init__(self):
        super().__init__()
        self.num_heads, self.head_dim, self.attn_dim = 4, 3, 12
        self.qkv, self.proj = nn.Linear(10, 36), nn.Linear(12, 10)
        self.bias = RelativeBias()

    def forward(self, x):
        qkv = self.qkv(x).reshape(len(x), -1, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        x = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=self.bias.get())
        return self.proj(x.transpose(1, 2).reshape(len(x), -1, self.attn_dim))


class RelativeBias(nn.Module):
    """A bias for every head and pair of positions, looked up in a table; its shape is remembered as a tuple."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(7, 4))
        self.shape = (5, 5, 4)
        self.register_buffer("index", torch.arange(25) % 7)

    def get(self):
        return self.table[self.index].view(self.shape).permute(2, 0, 1).unsqueeze(0)


def test_attention_whose_sizes_are_attributes_loses_heads(tools):
    model = nn.Sequential(nn.Linear(12, 10), FusedAttention(), nn.Linear(10, 3))
    structure, small = tools.traced(model, torch.randn(1, 5, 12))
    heads = tools.groups_of(structure)["1.qkv"]
    assert (heads.channels, heads.prunable) == (4, True)
    assert {cut.tensor: cut.axis for cut in heads.cuts}["1.bias.table"] == 1
    kept = small[1].num_heads
    assert (small[1].attn_dim, small[1].bias.shape) == (3 * kept, (5, 5, kept))
    assert kept < 4
    assert model[1].bias.shape == (5, 5, 4)


class Biased(nn.Module):
    """Attention with a norm of its own and a bias of every head, kept for evaluation as LeViT and TinyViT do."""

    def __init__(self, width=12, heads=3):
        super().__init__()
        self.num_heads, self.key_dim, self.out_dim, self.resolution = heads, 4, 12, (2, 2)
        self.norm, self.qkv, self.proj = nn.LayerNorm(width), nn.Linear(width, 36), nn.Linear(12, width)
        self.biases = nn.Parameter(torch.randn(heads, 4))
        self.kept = {}

    def train(self, mode=True):
        super().train(mode)
        self.kept = {}
        return self

    def biases_of_heads(self):
        biases = self.biases[:, (torch.arange(4)[:, None] - torch.arange(4)).abs()]
        return biases if self.training else self.kept.setdefault("biases", biases)

    def forward(self, x):
        parts = self.qkv(self.norm(x)).view(*x.shape[:2], self.num_heads, -1).split(self.key_dim, 3)
        query, key, value = (part.transpose(1, 2) for part in parts)
        scores = (query @ key.transpose(-2, -1) + self.biases_of_heads()).softmax(-1)
        image = (scores @ value).transpose(2, 3).reshape(len(x), self.out_dim, *self.resolution)
        return self.proj(image.flatten(2).transpose(1, 2))


def test_attention_that_keeps_its_biases_loses_heads(tools):
    model = nn.Sequential(nn.Linear(6, 12), Biased(), nn.Linear(12, 2)).eval()
    example = TOKENS[:, :4, :6]
    model(example)  # its biases are kept from here on
    structure, small = tools.traced(model, example)
    groups = tools.groups_of(structure)
    assert groups["1.qkv"].channels == 3
    assert groups["1.qkv"].prunable
    assert small[1].out_dim == small[1].proj.in_features < 12
    assert small[1].norm.normalized_shape == (small[0].out_features,)
    assert small[1].resolution == (2, 2)
    assert not model[1].training


class ClassAttention(nn.Module):
    """A class token joins the tokens of patches late, and a query of its own asks them, as in CaiT."""

    def __init__(self):
        super().__init__()
        self.patches, self.token = nn.Conv2d(3, 12, 4, stride=4), nn.Parameter(torch.randn(1, 1, 12))
        self.query, self.key, self.value = (nn.Linear(12, 12) for _ in range(3))
        self.head = nn.Linear(12, 4)

    def forward(self, x):
        x = torch.cat([self.token, self.patches(x).flatten(2).transpose(1, 2)], 1)
        query = self.query(x[:, :1])
        mixed = (query @ self.key(x).transpose(1, 2)).softmax(-1) @ self.value(x)
        return self.head(x[:, 0] + mixed[:, 0])


@pytest.mark.parametrize("side", [12, 16])
def test_tokens_may_be_more_than_channels_beside_a_class_token(tools, side):
    """9 or 16 patches and a class token of 12 channels: along the tokens there are two sorts of channels only."""
    image = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(2))
    structure, small = tools.traced(ClassAttention(), image)
    channels = {group.name: group.channels for group in structure.groups if group.prunable}
    assert channels == {"patches": 12, "query": 12}
    assert small.patches.out_channels == small.token.shape[-1] == small.head.in_features < 12
    assert small.value.weight.shape == (small.patches.out_channels, small.patches.out_channels)
    assert small.query.out_features == small.key.out_features < 12


class PaddedText(nn.Module):
    """A text classifier over padded sequences, with PyTorch's defaults; it reads the padded places too."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(20, 12)
        layer = nn.TransformerEncoderLayer(12, 2, 20, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, nn.LayerNorm(12))
        self.head = nn.Linear(12, 3)

    def forward(self, tokens, padding):
        return self.head(self.encoder(self.words(tokens), src_key_padding_mask=padding).mean(1))


PADDING = {"at the end": torch.arange(6) >= torch.tensor([[3], [4], [6]]), "first": torch.arange(6) < 2}


@pytest.mark.parametrize("where", PADDING)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_an_encoder_that_would_make_nested_tensors_computes_the_same_without(where):
    torch.manual_seed(0)
    model = PaddedText()
    nn.init.normal_(model.encoder.norm.bias)
    twin = copy.deepcopy(model)
    make_sliceable(twin)
    inputs = torch.randint(0, 20, (3, 6)), PADDING[where].expand(3, 6)
    for training in (False, True):  # in training PyTorch makes none, and padded places hold other values
        for with_gradients in (False, True):
            with torch.set_grad_enabled(with_gradients):
                torch.testing.assert_close(twin.train(training)(*inputs), model.train(training)(*inputs))


def test_padded_sequences_are_cut_with_pytorchs_defaults(tools):
    structure, _ = tools.traced(PaddedText(), (torch.randint(0, 20, (3, 6)), PADDING["at the end"]))
    assert {"encoder.layers.0.self_attn", "encoder.layers.0.linear1"} <= set(tools.groups_of(structure))
