"""Residual blocks: which branches can be dropped as a whole."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from amc.errors import ModelError
from amc.structure.residual_blocks import Dropped, drop_modules, put_back
from amc.tracing.trace import trace_structure


class Block(nn.Module):
    def __init__(self, inner=12):
        super().__init__()
        self.first, self.last = nn.Conv2d(8, inner, 3, padding=1), nn.Conv2d(inner, 8, 3, padding=1)

    def forward(self, x):
        return x + self.last(torch.relu(self.first(x)))


class InPlace(Block):
    def forward(self, x):
        out = self.last(torch.relu_(self.first(x)))
        out += x
        return torch.relu_(out)


class Projected(Block):
    """Neither summand is computed from the other."""

    def __init__(self):
        super().__init__()
        self.shortcut = nn.Conv2d(8, 8, 1)

    def forward(self, x):
        return self.shortcut(x) + self.last(torch.relu(self.first(x)))


class ReadTwice(Block):
    """The branch is returned too."""

    def forward(self, x):
        branch = self.last(torch.relu(self.first(x)))
        return torch.cat([x + branch, branch], 1)[:, :8]


class Shifted(Block):
    """The code between the modules makes something of zeros."""

    def forward(self, x):
        return x + (self.last(torch.relu(self.first(x))) + 1)


class Reshaping(Block):
    """The code between the modules knows the shape of what it expects."""

    def forward(self, x):
        return x + self.last(self.first(x).reshape(len(x), 12, 8, 8))


class Shared(nn.Module):
    """Two branches of one module."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        x = x + self.conv(x)
        return x + self.conv(x)


class Tied(nn.Module):
    """What another layer reads cannot go."""

    def __init__(self):
        super().__init__()
        self.conv, self.other = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.other.weight = self.conv.weight

    def forward(self, x):
        return self.other(x + self.conv(x))


class Tuple(nn.Module):
    """Modules may return a tuple, as attention does."""

    def __init__(self):
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(8), nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        tokens = x.flatten(2).transpose(1, 2)
        normed = self.norm(tokens)
        tokens = tokens + self.attention(normed, normed, normed, need_weights=False)[0]
        return tokens.transpose(1, 2).reshape(x.shape)


class Nested(nn.Module):
    """A block in the branch of another."""

    def __init__(self):
        super().__init__()
        self.inner, self.after = Block(), nn.Conv2d(8, 8, 1)

    def forward(self, x):
        return x + self.after(self.inner(x))


def network(*middle):
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), *middle, nn.Conv2d(8, 4, 1)).eval()


def blocks_of(model):
    structure = trace_structure(model, torch.randn(1, 3, 8, 8), blocks=True)
    return {structure.groups[i].name: dict(structure.groups[i].block.modules) for i in structure.blocks}


@pytest.mark.parametrize("kind", [Block, InPlace])
def test_a_branch_that_is_added_to_the_stream_is_a_block(kind):
    found = blocks_of(network(kind(), kind()))
    assert found == {"1": {"1.first": 0, "1.last": 0}, "2": {"2.first": 0, "2.last": 0}}


@pytest.mark.parametrize("kind", [Projected, ReadTwice, Shifted, Reshaping, Shared, Tied])
def test_what_cannot_be_dropped_is_no_block(kind):
    assert "1" not in blocks_of(network(kind()))
    assert "1.conv" not in blocks_of(network(kind()))


def test_a_module_that_returns_a_tuple_is_dropped_as_one():
    assert blocks_of(network(Tuple())) == {"1": {"1.attention": 2, "1.norm": 0}}


def test_blocks_in_blocks_are_decisions_of_their_own_and_cost_nothing_without_the_outer_one():
    model = network(Nested())
    structure = trace_structure(model, torch.randn(1, 3, 8, 8), blocks=True)
    outer, inner = (next(i for i in structure.blocks if structure.groups[i].name == name) for name in ("1", "1.inner"))
    widths = list(structure.dense_widths)
    costs = {}
    for kept in ((1, 1), (1, 0), (0, 1), (0, 0)):
        widths[outer], widths[inner] = kept
        costs[kept] = sum(term.cost(widths) for term in structure.params_terms)
    assert costs[1, 1] == sum(p.numel() for p in model.parameters())
    assert costs[1, 0] == sum(p.numel() for n, p in model.named_parameters() if ".inner." not in n)
    assert costs[0, 1] == costs[0, 0] == sum(p.numel() for n, p in model.named_parameters() if n[0] != "1")


def test_blocks_are_looked_for_only_where_they_are_asked_for():
    structure = trace_structure(network(Block()), torch.randn(1, 3, 8, 8))
    assert structure.blocks == ()
    assert all(group.block is None for group in structure.groups)


def test_the_search_for_blocks_leaves_the_network_as_it_is():
    model = network(Block(), InPlace())
    x = torch.randn(1, 3, 8, 8)
    before, modules = model(x), dict(model.named_modules())
    trace_structure(model, x, blocks=True)
    assert torch.equal(model(x), before)
    assert dict(model.named_modules()) == modules


def test_dropped_modules_can_be_put_back():
    model, x = network(Block()), torch.randn(2, 3, 8, 8)
    before = model(x)
    taken = drop_modules(model, {"1.first": 0, "1.last": 0})
    assert isinstance(model[1].last, Dropped)
    assert torch.equal(model(x), model[2](model[0](x)))
    put_back(model, taken)
    assert torch.equal(model(x), before)


def test_a_block_that_a_record_names_wrongly_says_so_when_it_is_run():
    with pytest.raises(ModelError, match=r"the 'dropped' of its architecture\.json names other modules"):
        Dropped()((torch.zeros(1), None))
