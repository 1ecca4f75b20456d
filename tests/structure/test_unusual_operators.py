"""Operators that few networks use: what they cost is what fvcore counts, and what they leave alone stays prunable."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

IMAGE = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
ADJACENCY = torch.rand(5, 5, generator=torch.Generator().manual_seed(2))
NODES = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(3))


class Between(nn.Module):
    """Two layers with an operator in between."""

    def __init__(self, first, second, operator):
        super().__init__()
        self.first, self.second, self.operator = first, second, operator

    def forward(self, x):
        return self.second(self.operator(self.first(x)))


def on_images(operator):
    return Between(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 3), operator)


def sampled(x):
    turn = torch.tensor([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0]])
    grid = functional.affine_grid(turn.expand(len(x), 2, 3), x.shape, align_corners=False)
    return functional.grid_sample(x, grid, align_corners=False)


def averaged(x):
    return functional.interpolate(x, scale_factor=0.5, mode="area")


def times_left(x):
    return torch.eye(x.shape[-2]) @ x


def times_right(x):
    return x @ torch.eye(x.shape[-1])


@pytest.mark.parametrize("operator", [sampled, averaged, times_left, times_right])
def test_operators_on_images_cost_what_fvcore_counts(tools, operator):
    structure, _ = tools.traced(on_images(operator), IMAGE)
    assert tools.groups_of(structure)["first"].prunable


def test_resizing_sequences_by_area_costs_nothing_as_in_fvcore(tools):
    model = Between(nn.Conv1d(3, 8, 3), nn.Conv1d(8, 4, 3), averaged)
    structure, _ = tools.traced(model, torch.randn(1, 3, 16))
    assert structure.dense_flops == 14 * 9 * 8 + 5 * 24 * 4


def test_a_spatial_transformer_is_cut_around_its_map(tools):
    class Transformer(nn.Module):
        def __init__(self):
            super().__init__()
            self.look, self.map = nn.Conv2d(3, 8, 7), nn.Linear(8, 6)
            self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3)

        def forward(self, x):
            turn = self.map(self.look(x).relu().mean((2, 3))).view(-1, 2, 3)
            grid = functional.affine_grid(turn, x.shape, align_corners=False)
            return self.second(self.first(functional.grid_sample(x, grid, align_corners=False)).relu())

    structure, _ = tools.traced(Transformer(), IMAGE)
    assert [group.name for group in structure.groups if group.prunable] == ["look", "first"]


@pytest.mark.parametrize(
    "operator",
    [
        lambda a, x: a @ x,
        lambda a, x: a[None] @ x,
        lambda a, x: torch.bmm(a.expand(len(x), 5, 5), x),
        lambda a, x: (x.transpose(1, 2) @ a.t()).transpose(1, 2),
        lambda a, x: torch.einsum("ij,bjc->bic", a, x),
    ],
    ids=["matmul", "matmul of a batch of one", "bmm", "from the right", "einsum"],
)
def test_features_are_cut_where_a_graph_is_an_input(tools, operator):
    class Graph(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.head = nn.Linear(4, 8), nn.Linear(8, 6), nn.Linear(6, 2)

        def forward(self, nodes, adjacency):
            hidden = self.first(operator(adjacency, nodes)).relu()
            return self.head(operator(adjacency, self.second(operator(adjacency, hidden)).relu()))

    structure, _ = tools.traced(Graph(), (NODES, ADJACENCY))
    assert [group.name for group in structure.groups if group.prunable] == ["first", "second"]


def test_what_is_gated_by_the_input_stays(tools):
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.head = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 3, 1), nn.Conv2d(3, 2, 1)

        def forward(self, x):
            return self.head(x * self.second(self.first(x)))

    structure, _ = tools.traced(Gated(), IMAGE)
    assert tools.reasons_of(structure)["second"] == "summed with the network's input"


@pytest.mark.parametrize(
    "held",
    [[torch.zeros(2, 2)] * 3, (torch.zeros(2),) * 4, [[1, 2], [3]], [float("nan")] * 4, ["a"] * 4],
    ids=["tensors", "as many tensors as axes", "nested lists", "floats", "words"],
)
def test_lists_that_modules_hold_are_no_shapes_unless_they_are_of_integers(tools, held):
    model = on_images(lambda x: x.reshape(len(x), -1, 256).unflatten(2, (16, 16)))
    model.held = held
    structure, _ = tools.traced(model, IMAGE)
    assert tools.groups_of(structure)["first"].prunable
