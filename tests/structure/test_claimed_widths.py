"""Attention that takes the width of its heads from the shape of its input, as hand-written transformers do."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional

from amc.export import export_model
from amc.storage.architecture import describe, rebuild
from amc.storage.source import ModelSource
from amc.structure.claimed_width import CLAIMED, claim_width, claims_width
from amc.tracing.trace import trace_structure

TOKENS = torch.randint(0, 20, (1, 6), generator=torch.Generator().manual_seed(2))


class Attention(nn.Module):
    """As in nanoGPT: the input's width counts as that of all heads."""

    def __init__(self, width=32, heads=4):
        super().__init__()
        self.c_attn, self.c_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.n_head, self.n_embd = heads, width

    def forward(self, x):
        batch, length, width = x.size()
        parts = self.c_attn(x).split(self.n_embd, dim=2)
        q, k, v = (part.view(batch, length, self.n_head, width // self.n_head).transpose(1, 2) for part in parts)
        x = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.c_proj(x.transpose(1, 2).contiguous().view(batch, length, width))


class BySize(Attention):
    """Asks for one length at a time, and packs q, k and v as timm does."""

    def forward(self, x):
        width = x.size(-1)
        packed = self.c_attn(x).reshape(len(x), x.shape[1], 3, self.n_head, x.size(dim=2) // self.n_head)
        q, k, v = packed.permute(2, 0, 3, 1, 4)
        x = ((q @ k.transpose(-2, -1)).softmax(-1) @ v).transpose(1, 2)
        return self.c_proj(x.reshape(*x.shape[:2], width))


class Folding(Attention):
    """Gives the input itself another shape with the same number: what is claimed of it would be wrong there."""

    def forward(self, x):
        batch, length, width = x.shape
        return super().forward(x.permute(0, 2, 1).reshape(batch, width, length).permute(0, 2, 1))


class Divided(BySize):
    """Convolves the values of each head, those of the last two with another kernel, as CoaT does."""

    def __init__(self, width=32, heads=5):
        super().__init__(width, heads)
        self.sizes = [3 * (width // heads), 2 * (width // heads)]
        self.kernels = nn.ModuleList(
            nn.Conv1d(n, n, k, padding=k // 2, groups=n) for n, k in zip(self.sizes, (3, 5), strict=True)
        )

    def forward(self, x):
        width = x.size(-1)
        packed = self.c_attn(x).reshape(len(x), x.shape[1], 3, self.n_head, width // self.n_head)
        q, k, v = packed.permute(2, 0, 3, 1, 4)
        parts = v.transpose(-1, -2).reshape(len(x), width, -1).split(self.sizes, dim=1)
        convolved = torch.cat([kernel(part) for kernel, part in zip(self.kernels, parts, strict=True)], dim=1)
        x = ((q @ k.transpose(-2, -1)).softmax(-1) @ v).transpose(1, 2).reshape(x.shape)
        return self.c_proj(x + convolved.transpose(1, 2))


class Transformer(nn.Module):
    def __init__(self, attention=Attention, width=32, blocks=2):
        super().__init__()
        self.words, self.head = nn.Embedding(20, width), nn.Linear(width, 5)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(blocks))
        self.attentions = nn.ModuleList(attention(width) for _ in range(blocks))

    def forward(self, tokens):
        x = self.words(tokens)
        for norm, attention in zip(self.norms, self.attentions, strict=True):
            x = x + attention(norm(x))
        return self.head(x)


@pytest.mark.parametrize("attention", [Attention, BySize])
def test_heads_and_stream_are_cut(tools, attention):
    structure, small = tools.traced(Transformer(attention), TOKENS)
    assert [group.channels for group in structure.groups if group.prunable] == [32, 4, 4]
    first = small.attentions[0]
    assert isinstance(first, attention)
    assert first.n_head < 4
    assert getattr(first, CLAIMED) == first.c_proj.in_features == 8 * first.n_head
    assert small.words.embedding_dim < 32


def test_heads_that_are_divided_among_layers_are_several_groups(tools):
    structure, small = tools.traced(Transformer(Divided, width=30, blocks=1), TOKENS)
    assert [group.channels for group in structure.groups if group.prunable] == [30, 3, 2]
    attention = small.attentions[0]
    assert getattr(attention, CLAIMED) == 6 * attention.n_head == sum(attention.sizes) == attention.c_proj.in_features


@pytest.mark.parametrize("attention", [Attention, BySize])
def test_heads_that_are_ignored_may_as_well_be_gone(tools, attention):
    model = tools.randomise(Transformer(attention))
    structure = trace_structure(model, TOKENS)
    heads = [index for index in structure.prunable if structure.groups[index].channels == 4]
    small, kept = tools.cut_half(model, structure, heads)
    for index, channels in kept.items():
        for entry in structure.groups[index].cuts:
            if entry.role == "read":
                gone = [p for head in set(range(4)) - set(channels.tolist()) for p in entry.positions[head]]
                model.get_parameter(entry.tensor).data[:, gone] = 0
    torch.testing.assert_close(tools.outputs_of(small, TOKENS), tools.outputs_of(model, TOKENS))


def test_a_width_that_means_the_input_too_is_left_alone(tools):
    model = tools.randomise(Transformer(Folding))
    structure = trace_structure(model, TOKENS)
    reasons = tools.reasons_of(structure)
    assert "counts on its width" in reasons["attentions.0.c_attn"]
    assert not any(claims_width(module) for module in model.modules())
    assert type(model.attentions[0]) is Folding


def test_tracing_leaves_the_dense_network_what_it_computes(tools):
    model = tools.randomise(Transformer())
    before = tools.outputs_of(model, TOKENS)
    trace_structure(model, TOKENS)
    torch.testing.assert_close(tools.outputs_of(model, TOKENS), before)


def test_claimed_widths_are_saved_with_the_architecture(tools):
    model = tools.randomise(Transformer())
    structure = trace_structure(model, TOKENS)
    small, kept = tools.cut_half(model, structure)
    record = describe(model, structure, kept, ModelSource.of(model))
    again = rebuild(record, Transformer())
    again.load_state_dict(small.state_dict())
    torch.testing.assert_close(tools.outputs_of(again, TOKENS), tools.outputs_of(small, TOKENS))


def test_a_cut_network_is_traced_and_cut_again(tools):
    _, small = tools.traced(Transformer(), TOKENS)
    structure, smaller = tools.traced(small, TOKENS)
    assert any(group.prunable and group.channels == small.attentions[1].n_head for group in structure.groups)
    assert smaller.words.embedding_dim < small.words.embedding_dim


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_and_pickles_keep_their_claims(tools, twin):
    _, small = tools.traced(Transformer(), TOKENS)
    again = twin(small)
    assert getattr(again.attentions[0], CLAIMED) == getattr(small.attentions[0], CLAIMED)
    torch.testing.assert_close(tools.outputs_of(again, TOKENS), tools.outputs_of(small, TOKENS))
    claim_width(again.attentions[0], 24)
    assert getattr(small.attentions[0], CLAIMED) != 24


def test_onnx_export_keeps_what_is_claimed(tools, tmp_path):
    _, small = tools.traced(Transformer(blocks=1), TOKENS)
    export_model(small, tmp_path / "model.onnx", "onnx", TOKENS)  # compares the outputs at two batch sizes
