"""Widths that modules remember under any name follow a cut, if the cut network then computes what it should."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional

from amc.errors import CheckpointError
from amc.storage.architecture import describe, rebuild
from amc.storage.fit import check_attributes
from amc.storage.source import ModelSource
from amc.structure.remembered_numbers import fields_of

IMAGE = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
TOKENS = torch.randint(0, 20, (1, 6), generator=torch.Generator().manual_seed(2))
NAMES = "nf embed_dim dim d_model hidden_size channels out_channels planes c hidden half_dim out_dim anything"


class Viewing(nn.Module):
    """Gives its channels back a width that it remembers."""

    def __init__(self, name, width=8):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1)
        self.name = name
        setattr(self, name, width)

    def forward(self, x):
        return self.second(self.between(self.first(x).relu(), getattr(self, self.name)))

    def between(self, x, width):
        return x.flatten(2).view(len(x), width, *x.shape[2:])


@pytest.mark.parametrize("name", NAMES.split())
def test_a_width_under_any_name_follows(tools, name):
    structure, small = tools.traced(Viewing(name), IMAGE)
    assert getattr(small, name) == small.first.out_channels < 8
    assert tools.groups_of(structure)["first"].prunable


@dataclass(frozen=True)
class Settings:
    """Numbers that several modules share, and a dictionary would."""

    hidden: int = 8
    depth: int = 8


class Configured(nn.Module):
    """Two layers whose widths are cut differently, behind settings that they share."""

    def __init__(self, settings):
        super().__init__()
        self.one, self.two = Part(3, settings), Part(8, settings)
        self.settings, self.last = settings, nn.Conv2d(8, 4, 1)

    def forward(self, x):
        return self.last(self.two(self.one(x)))


class Part(nn.Module):
    def __init__(self, inputs, settings):
        super().__init__()
        self.conv, self.settings = nn.Conv2d(inputs, 8, 1), settings

    def forward(self, x):
        hidden = self.settings["hidden"] if isinstance(self.settings, dict) else self.settings.hidden
        return self.conv(x).relu().flatten(2).view(len(x), hidden, *x.shape[2:])


@pytest.mark.parametrize("settings", [Settings(), SimpleNamespace(hidden=8, other="x"), {"hidden": 8, 3: 8}])
def test_a_width_in_settings_that_modules_share_follows_in_each_of_them(tools, settings):
    model = tools.randomise(Configured(settings))
    structure, small = tools.traced(model, IMAGE)
    assert [group.prunable for group in structure.groups] == [True, True, False]
    found = [fields_of(part.settings)["hidden"] for part in (small.one, small.two)]
    assert found == [part.conv.out_channels for part in (small.one, small.two)]
    assert len({8, *found}) == 3
    assert fields_of(settings)["hidden"] == 8
    kept = tools.cut_half(model, structure)[1]
    again = rebuild(describe(model, structure, kept, ModelSource.of(model)), Configured(copy.copy(settings)))
    again.load_state_dict(small.state_dict())
    torch.testing.assert_close(again.eval()(IMAGE), small.eval()(IMAGE))


@pytest.mark.parametrize("attribute", ["settings.hidden", "settings.missing", "settings.__class__", "settings.a.b"])
def test_a_file_sets_no_other_numbers_in_settings(attribute):
    with pytest.raises(CheckpointError, match="must set numbers of channels that the network has, none larger"):
        check_attributes(Configured(Settings()), [("one", attribute, 9)])


def test_a_file_sets_an_output_size_that_is_a_width_and_none_of_a_pooling_layer(tools):
    model = tools.randomise(Viewing("output_size"))
    structure, small = tools.traced(model, IMAGE)
    kept = tools.cut_half(model, structure)[1]
    again = rebuild(describe(model, structure, kept, ModelSource.of(model)), Viewing("output_size"))
    assert again.output_size == small.output_size < 8
    with pytest.raises(CheckpointError, match="must set numbers of channels"):
        check_attributes(nn.Sequential(nn.AdaptiveAvgPool2d(4)), [("0", "output_size", 2)])


class ViewingStages(nn.Sequential):
    """The same, of a class that PyTorch's containers are the base of, as stages often are."""

    def __init__(self):
        super().__init__(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1))
        self.output_size = 8

    def forward(self, x):
        x = self[0](x).relu()
        return self[1](x.flatten(2).view(len(x), self.output_size, *x.shape[2:]))


def test_an_output_size_of_a_sequence_is_a_width_too(tools):
    model = tools.randomise(ViewingStages())
    structure, small = tools.traced(model, IMAGE)
    kept = tools.cut_half(model, structure)[1]
    again = rebuild(describe(model, structure, kept, ModelSource.of(model)), ViewingStages())
    assert again.output_size == small.output_size < 8


@pytest.mark.parametrize("layer", [nn.AdaptiveMaxPool2d(4), nn.FractionalMaxPool2d(2, 4), nn.Fold(4, 2)])
def test_a_file_sets_the_output_size_of_no_layer_of_pytorch(layer):
    with pytest.raises(CheckpointError, match="must set numbers of channels"):
        check_attributes(nn.Sequential(layer), [("0", "output_size", 2)])


class Halves(Viewing):
    def between(self, x, width):
        return torch.cat([x[:, :width], x[:, width:].tanh()], 1)


class Pieces(Viewing):
    def between(self, x, width):
        return torch.cat(x.split((width, width), 1)[::-1], 1)


class Listed(Viewing):
    def between(self, x, width):
        return torch.cat(x.split(width, 1)[::-1], 1)


@pytest.mark.parametrize(("network", "width"), [(Halves, 4), (Pieces, 4), (Listed, [4, 4])])
def test_parts_of_a_width_follow(tools, network, width):
    structure, small = tools.traced(network("part", width), IMAGE)
    assert tools.groups_of(structure)["first"].prunable
    assert small.first.out_channels == 2 * (small.part if width == 4 else small.part[0])


def test_two_widths_under_one_name_cannot_follow(tools):
    class Twice(Viewing):
        def __init__(self):
            super().__init__("width")
            self.middle = nn.Conv2d(8, 8, 1)

        def between(self, x, width):
            return super().between(self.middle(super().between(x, width)), width)

    structure, _ = tools.traced(Twice(), IMAGE)
    assert all("counts on its width" in tools.reasons_of(structure)[name] for name in ("first", "middle"))


def test_a_number_that_happens_to_be_the_width_does_not_follow(tools):
    class Repeating(Viewing):
        def between(self, x, width):
            return super().between(x, 8) * width

    structure, small = tools.traced(Repeating("times"), IMAGE)
    assert tools.groups_of(structure)["first"].prunable
    assert small.times == 8 > small.first.out_channels


class Projection(nn.Module):
    """A linear layer as GPT-2 has it, with the weight transposed."""

    def __init__(self, nf, nx):
        super().__init__()
        self.nf = nf
        self.weight, self.bias = nn.Parameter(torch.zeros(nx, nf)), nn.Parameter(torch.zeros(nf))

    def forward(self, x):
        shape = (*x.size()[:-1], self.nf)
        return torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight).view(shape)


class GptAttention(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.embed_dim, self.split_size, self.head_dim = width, width, width // 4
        self.c_attn, self.c_proj = Projection(3 * width, width), Projection(width, width)

    def forward(self, x):
        parts = [t.view(*t.shape[:-1], -1, self.head_dim) for t in self.c_attn(x).split(self.split_size, dim=2)]
        mixed = functional.scaled_dot_product_attention(*(part.transpose(1, 2) for part in parts), is_causal=True)
        return self.c_proj(mixed.transpose(1, 2).flatten(2))


class OwnNames(nn.Module):
    """Names that no other network has."""

    def __init__(self, width):
        super().__init__()
        self.breadth, self.h, self.hd = width, 4, width // 4
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        query, key, value = self.qkv(x).reshape(*x.shape[:2], 3, self.h, self.hd).permute(2, 0, 3, 1, 4)
        mixed = (query @ key.transpose(-2, -1) * self.hd**-0.5).softmax(-1) @ value
        return self.proj(mixed.transpose(1, 2).reshape(*x.shape[:2], self.breadth))


class Grouped(nn.Module):
    """Query heads that share keys and values, as in LLaMA."""

    shared = 2

    def __init__(self, width):
        super().__init__()
        self.head_dim, self.groups_of_heads = width // 8, 8 // self.shared
        keys = self.shared * self.head_dim
        self.q, self.k, self.v, self.o = (nn.Linear(width, out) for out in (width, keys, keys, width))

    def forward(self, x):
        shape = (*x.shape[:-1], -1, self.head_dim)
        query, key, value = (layer(x).view(shape).transpose(1, 2) for layer in (self.q, self.k, self.v))
        return self.o(self.mixed(query, key, value).transpose(1, 2).reshape(*x.shape[:-1], -1))

    def mixed(self, query, key, value):
        key, value = (self.repeated(tensor) for tensor in (key, value))
        return (query @ key.transpose(2, 3) * self.head_dim**-0.5).softmax(-1) @ value

    def repeated(self, x):
        batch, heads, length, width = x.shape
        x = x[:, :, None].expand(batch, heads, self.groups_of_heads, length, width)
        return x.reshape(batch, heads * self.groups_of_heads, length, width)


class GroupedByFlag(Grouped):
    def mixed(self, query, key, value):
        return functional.scaled_dot_product_attention(query, key, value, enable_gqa=True)


class GroupedInterleaved(Grouped):
    def repeated(self, x):
        return x.repeat_interleave(self.groups_of_heads, 1)


class OneKey(Grouped):
    shared = 1


class RootMeanSquare(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return self.weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


class Transformer(nn.Module):
    """Two blocks on words and places, of which fewer are used than there are."""

    norm, scaled = nn.LayerNorm, False

    def __init__(self, attention, width=16):
        super().__init__()
        self.d_model = width
        self.words, self.places = nn.Embedding(20, width), nn.Parameter(torch.zeros(1, 32, width))
        self.norms = nn.ModuleList(self.norm(width) for _ in range(2))
        self.attentions = nn.ModuleList(attention(width) for _ in range(2))
        self.head = nn.Linear(width, 5)

    def forward(self, tokens):
        x = self.words(tokens) + self.places[:, : tokens.shape[1]]
        x = x.flatten(1).view(len(x), -1, self.d_model) * (self.d_model**0.5 if self.scaled else 1.0)
        for norm, attention in zip(self.norms, self.attentions, strict=True):
            x = x + attention(norm(x))
        return self.head(x.relu())


@pytest.mark.parametrize("attention", [GptAttention, OwnNames, Grouped, GroupedByFlag, GroupedInterleaved])
def test_heads_and_streams_of_transformers_are_cut(tools, attention):
    structure, _ = tools.traced(Transformer(attention), TOKENS)
    assert [group.prunable for group in structure.groups] == [True, True, True, False]
    assert [group.channels for group in structure.groups][1:3] == ([2, 2] if issubclass(attention, Grouped) else [4, 4])


def test_query_heads_are_cut_where_all_share_one_key(tools):
    structure, _ = tools.traced(Transformer(OneKey), TOKENS)
    reasons = {name.rpartition(".")[2]: group.reason for name, group in tools.groups_of(structure).items()}
    assert reasons["q"] is None
    assert reasons["v"] == "read by every head"


class RmsTransformer(Transformer):
    norm = RootMeanSquare


class ScaledTransformer(Transformer):
    scaled = True


@pytest.mark.parametrize(("network", "prunable"), [(RmsTransformer, True), (ScaledTransformer, False)])
def test_a_stream_whose_width_scales_what_is_computed_does_not_lose_it(tools, network, prunable):
    structure, _ = tools.traced(network(OwnNames), TOKENS)
    assert tools.groups_of(structure)["words"].prunable is prunable


def test_widths_are_found_again_in_the_saved_architecture(tools):
    model = tools.randomise(Transformer(GptAttention))
    structure, small = tools.traced(model, TOKENS)
    kept = tools.cut_half(model, structure)[1]
    record = describe(model, structure, kept, ModelSource.of(model))
    again = rebuild(record, copy.deepcopy(model))
    again.load_state_dict(small.state_dict())
    for found, expected in zip(tools.outputs_of(again, TOKENS), tools.outputs_of(small, TOKENS), strict=True):
        torch.testing.assert_close(found, expected)


def test_caches_of_language_models_are_no_outputs(tools):
    class Caching(Transformer):
        def forward(self, tokens):
            logits = super().forward(tokens)
            return {"logits": logits, "past_key_values": [self.attentions[0].c_attn(self.words(tokens))]}

    structure = tools.traced(Caching(GptAttention), TOKENS)[0]
    assert tools.groups_of(structure)["attentions.0.c_attn"].prunable
