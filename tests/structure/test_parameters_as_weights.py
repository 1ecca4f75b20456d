"""Parameters that networks multiply by themselves, with `einsum`, products and functions, are layers as others are."""

from __future__ import annotations

from math import prod

import pytest
import torch
from torch import nn
from torch.nn import functional

IMAGE = torch.randn(2, 3, 5, 4, generator=torch.Generator().manual_seed(1))
TOKENS = torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(2))


class Between(nn.Module):
    """Two layers of modules, with products by parameters in between."""

    def __init__(self, example, operator, shapes, width=6):
        super().__init__()
        on_images = example is IMAGE
        self.first = nn.Conv2d(3, 8, 1) if on_images else nn.Linear(5, 8)
        self.last = nn.Conv2d(width, 4, 1) if on_images else nn.Linear(width, 4)
        self.weights, self.operator = nn.ParameterList(torch.zeros(shape) for shape in shapes), operator

    def forward(self, x):
        return self.last(self.operator(self.first(x).relu(), *self.weights).relu())


def prunable(structure):
    return [(group.name, group.channels) for group in structure.groups if group.prunable]


def by(equation):
    return lambda x, w: torch.einsum(equation, x, w)


@pytest.mark.parametrize(
    ("example", "operator", "shape"),
    [
        (IMAGE, by("bchw,oc->bohw"), (6, 8)),
        (IMAGE, by("bchw,co->bohw"), (8, 6)),
        (IMAGE, lambda x, w: torch.einsum("oc,bchw->bohw", w, x), (6, 8)),
        (IMAGE, lambda x, w: functional.conv2d(x, w, padding=1), (6, 8, 3, 3)),
        (IMAGE, lambda x, w: functional.conv2d(x, w[:, :, None, None]), (6, 8)),
        (IMAGE, lambda x, w: (w @ x.flatten(2)).unflatten(2, (5, 4)), (6, 8)),
        (IMAGE, lambda x, w: torch.bmm(w.expand(len(x), -1, -1), x.flatten(2)).unflatten(2, (5, 4)), (6, 8)),
        (TOKENS, by("bnc,cd->bnd"), (8, 6)),
        (TOKENS, by("...c,dc->...d"), (6, 8)),
        (TOKENS, by("bnc,nco->bno"), (7, 8, 6)),
        (TOKENS, lambda x, w: x @ w, (8, 6)),
        (TOKENS, lambda x, w: x @ w.t(), (6, 8)),
        (TOKENS, functional.linear, (6, 8)),
        (TOKENS, torch.inner, (6, 8)),
        (TOKENS, lambda x, w: torch.addmm(torch.zeros(1), x.flatten(0, 1), w).unflatten(0, (2, 7)), (8, 6)),
    ],
)
def test_both_axes_of_a_parameter_are_channels(tools, example, operator, shape):
    structure, small = tools.traced(Between(example, operator, [shape]), example)
    assert prunable(structure) == [("first", 8), ("weights", 6)]
    assert small.weights[0].numel() * 48 == prod(shape) * 9  # 3 of 8 by 3 of 6 channels are left


@pytest.mark.parametrize("dims", [1, ([2], [0])])
def test_tensordot_costs_nothing_as_in_fvcore(tools, dims):
    model = Between(TOKENS, lambda x, w: torch.tensordot(x, w, dims=dims), [(8, 6)])
    structure, _ = tools.traced(model, TOKENS)
    assert structure.dense_flops == 14 * (5 * 8 + 6 * 4)


def test_products_of_several_operands_are_several_layers(tools):
    model = Between(TOKENS, lambda x, v, w: torch.einsum("bnc,cr,ro->bno", x, v, w), [(8, 3), (3, 6)])
    structure, _ = tools.traced(model, TOKENS)
    assert prunable(structure) == [("first", 8), ("weights", 3), ("weights#2", 6)]


class Attention(nn.Module):
    """Attention whose projections are parameters `(heads, c, d)` or `(c, heads, d)`."""

    def __init__(self, equations, shape, **remembered):
        super().__init__()
        self.into, self.equations = nn.Linear(5, 8), equations
        self.query, self.key, self.value = (nn.Parameter(torch.zeros(shape)) for _ in range(3))
        self.back, self.last = nn.Parameter(torch.zeros(2, 3, 6)), nn.Linear(6, 4)
        vars(self).update(remembered)

    def forward(self, x):
        x, (project, compare, mix, back) = self.into(x).relu(), self.equations
        query, key, value = (torch.einsum(project, x, weight) for weight in (self.query, self.key, self.value))
        scores = (torch.einsum(compare, query, key) * 3**-0.5).softmax(-1)
        return self.last(torch.einsum(back, torch.einsum(mix, scores, value), self.back))


HEADS_LAST = (("bnc,chd->bnhd", "bnhd,bmhd->bhnm", "bhnm,bmhd->bnhd", "bnhd,hdo->bno"), (8, 2, 3))
HEADS_FIRST = (("bnc,hcd->bhnd", "bhnd,bhmd->bhnm", "bhnm,bhmd->bhnd", "bhnd,hdo->bno"), (2, 8, 3))


@pytest.mark.parametrize("layout", [HEADS_LAST, HEADS_FIRST])
def test_attention_by_einsum_is_cut_in_the_width_of_its_heads(tools, layout):
    structure, small = tools.traced(Attention(*layout), TOKENS)
    assert prunable(structure) == [("into", 8), ("query", 3), ("value", 3), ("back", 6)]
    assert small.query.shape == small.key.shape


@pytest.mark.parametrize("layout", [HEADS_LAST, HEADS_FIRST])
def test_attention_by_einsum_loses_heads_where_their_number_is_known(tools, layout):
    structure, small = tools.traced(Attention(*layout, num_heads=2), TOKENS)
    assert prunable(structure) == [("into", 8), ("query", 2), ("back", 6)]
    assert small.num_heads == 1
    assert small.back.shape[:2] == (1, 3)


def test_a_matrix_for_every_group_is_cut_inside_of_all(tools):
    def grouped(x, w):
        return torch.einsum("bngc,gcd->bngd", x.unflatten(2, (2, -1)), w).flatten(2)

    structure, _ = tools.traced(Between(TOKENS, grouped, [(2, 4, 3)]), TOKENS)
    assert prunable(structure) == [("first", 4), ("weights", 3)]


def test_einsum_costs_the_same_where_it_sums_over_one_channel(tools):
    """PyTorch then multiplies element by element; 14 rows, of five, one, six and four features."""
    model = Between(TOKENS, lambda x, w: torch.einsum("bnc,cd->bnd", x[..., :1], w), [(1, 6)])
    structure, _ = tools.traced(model, TOKENS)
    assert structure.dense_flops == 14 * (5 * 8 + 1 * 6 + 6 * 4)


def test_channels_beside_the_sum_stay_channels(tools):
    model = Between(TOKENS, lambda x, w: torch.einsum("bnc,nm->bmc", x, w), [(7, 9)], width=8)
    structure, _ = tools.traced(model, TOKENS)
    assert prunable(structure) == [("first", 8)]


def test_a_parameter_that_is_split_by_hand_is_left_alone(tools):
    model = Between(TOKENS, lambda x, w: x @ w.view(8, 3, 2).sum(2), [(8, 6)], width=3)
    structure, _ = tools.traced(model, TOKENS)
    assert tools.reasons_of(structure)["first"].startswith("the network's code counts on its width: shape '[8, 3, 2]'")
