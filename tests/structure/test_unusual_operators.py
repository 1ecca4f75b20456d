"""Operators that few networks use: what they cost is what fvcore counts, and what they leave alone stays prunable."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional
from torchvision.ops import DeformConv2d, roi_align

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


def antialiased(x):
    return functional.interpolate(x, scale_factor=0.5, mode="bilinear", antialias=True)


def fractional(x):
    places = torch.full((1, x.shape[1], 2), 0.5)
    return functional.fractional_max_pool2d(x, 2, output_size=8, _random_samples=places)


def unfolded(x):
    return functional.fold(functional.unfold(x, 3, padding=1), (16, 16), 3, padding=1)


def sorted_rows(x):
    return x.sort(-1).values


def largest(x):
    return x.flatten(2).topk(256, -1).values.view_as(x)


def gathered(x):
    return x.gather(3, torch.arange(16).flip(0).expand(x.shape))


def region(x):
    return roi_align(x, [torch.tensor([[0.0, 0.0, 8.0, 8.0]])], 8)


@pytest.mark.parametrize("operator", [antialiased, fractional, unfolded, sorted_rows, largest, gathered, region])
def test_operators_beside_the_channels_let_them_go(tools, operator):
    structure, _ = tools.traced(on_images(operator), IMAGE)
    assert tools.groups_of(structure)["first"].prunable


@pytest.mark.parametrize("operator", [lambda x: x.sort(1).values, lambda x: x.topk(8, 1).values])
def test_operators_across_the_channels_keep_them(tools, operator):
    structure, _ = tools.traced(on_images(operator), IMAGE)
    assert tools.reasons_of(structure)["first"].startswith("addressed by position")


@pytest.mark.parametrize(
    ("groups", "outputs", "channels"), [(1, 8, [8, 8]), (2, 16, [4, 8]), (2, 4, [4, 2]), (8, 8, [8]), (8, 16, [8])]
)
def test_transposed_convolutions_in_groups_are_cut(tools, groups, outputs, channels):
    up = nn.ConvTranspose2d(8, outputs, 2, 2, groups=groups)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), up, nn.ReLU(), nn.Conv2d(outputs, 4, 3))
    structure, _ = tools.traced(model, IMAGE)
    assert [group.channels for group in structure.groups if group.prunable] == channels


@pytest.mark.parametrize("masked", [True, False])
def test_deformable_convolutions_are_cut_and_their_offsets_kept(tools, masked):
    class Deformable(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.offset, self.mask = (nn.Conv2d(c, o, 3, padding=1) for c, o in ((3, 8), (8, 18), (8, 9)))
            self.deformed, self.last = DeformConv2d(8, 6, 3, padding=1), nn.Conv2d(6, 4, 3)

        def forward(self, x):
            x = self.first(x)
            return self.last(self.deformed(x, self.offset(x), self.mask(x).sigmoid() if masked else None))

    structure, _ = tools.traced(Deformable(), IMAGE)
    assert [group.name for group in structure.groups if group.prunable] == ["first", "deformed"]
    assert tools.reasons_of(structure)["offset"] == "tells where to sample"


@pytest.mark.parametrize(
    ("groups", "places", "units"), [(2, 1, [4, 4]), (8, 1, [8]), (1, 2, [4, 8]), (2, 4, [2, 4]), (8, 2, [4])]
)
def test_deformable_convolutions_in_groups_are_cut(tools, groups, places, units):
    """In groups of channels as other convolutions are; channels sampled at places of their own go alike."""

    class Deformable(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.offset = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 18 * places, 3, padding=1)
            self.deformed, self.last = DeformConv2d(8, 8, 3, padding=1, groups=groups), nn.Conv2d(8, 4, 1)

        def forward(self, x):
            return self.last(self.deformed(self.first(x).relu(), self.offset(x)).relu())

    structure, small = tools.traced(Deformable(), IMAGE)
    assert [group.channels for group in structure.groups if group.prunable] == units
    assert small.deformed.weight.numel() < 8 * 8 * 9 / groups


def test_positions_in_a_buffer_are_no_channels(tools):
    class Picking(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.kinds, self.head = nn.Embedding(9, 8), nn.Embedding(2, 8), nn.Linear(8, 3)
            self.register_buffer("places", torch.zeros(1, 12, dtype=torch.long))

        def forward(self, tokens):
            kinds = torch.gather(self.places, 1, torch.arange(tokens.shape[1])[None])
            return self.head(self.words(tokens) + self.kinds(kinds))

    structure, _ = tools.traced(Picking(), torch.randint(0, 9, (1, 5)))
    assert [group.name for group in structure.groups] == ["words", "head"]


class Routed(nn.Module):
    """Two experts, each of which sees the rows whose first feature has its sign."""

    def __init__(self):
        super().__init__()
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 12)) for _ in range(2))
        self.head = nn.Linear(12, 4)

    def forward(self, x):
        chosen, out = (x[:, 0] > 0).long(), x.new_zeros(len(x), 12)
        for index, expert in enumerate(self.experts):
            out[chosen == index] = expert(x[chosen == index])
        return self.head(out)


def test_an_expert_that_the_example_does_not_reach_stays_whole_and_says_why(tools):
    rows = torch.randn(6, 6, generator=torch.Generator().manual_seed(1))
    rows[:, 0] = torch.tensor([1.0, 1, 1, -1, -1, -1])
    structure, _ = tools.traced(Routed(), rows[:1])
    groups = tools.groups_of(structure)
    assert groups["experts.1.0"].prunable
    assert groups["experts.0.0"].reason.startswith("the example input gives it nothing to compute, as an expert")
    assert not any("out of bounds" in reason for reason in tools.reasons_of(structure).values())
    structure, _ = tools.traced(Routed(), rows)
    assert all(tools.groups_of(structure)[f"experts.{index}.0"].prunable for index in range(2)), "a larger one does"
