"""Weights whose inputs lie along another axis, and modules with several weights of their own."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from amc.costs import Budget
from amc.costs.counting import count_params
from amc.errors import UnknownNameError
from amc.problem import weight_problem
from amc.problem.effective import effective_costs
from amc.pruning import Evidence, WeightPruner, WeightTableOptions, build_weight_tables
from amc.pruning.criteria.norms import Magnitude
from amc.pruning.criteria.surgeon import OptimalBrainSurgeon
from amc.pruning.weight_patterns import WEIGHT_PATTERNS
from amc.structure.weight_axes import WeightAxes, axes_of_convolution, axes_of_product
from amc.tracing.trace import trace_structure


class Arranged(nn.Module):
    """Every way to lay out a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.up = nn.ConvTranspose2d(8, 12, 3, padding=1)
        self.grouped = nn.ConvTranspose2d(12, 8, 3, padding=1, groups=3 - 1)
        self.split = nn.Parameter(torch.randn(8, 2, 6) / 3)
        self.joined = nn.Parameter(torch.randn(2, 6, 8) / 3)
        self.rows = nn.Parameter(torch.randn(8, 12) / 3)
        self.columns = nn.Parameter(torch.randn(5, 12) / 3)
        self.tied = nn.Parameter(torch.randn(8, 8) / 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.grouped(functional.relu(self.up(functional.relu(self.stem(x))))))
        x = torch.einsum("bnc,chd->bnhd", x.flatten(2).transpose(1, 2), self.split)
        x = torch.einsum("bnhd,hdc->bnc", x.relu(), self.joined).mean(1)
        x = functional.relu(functional.linear(x, self.tied)) @ self.tied
        return functional.linear(functional.relu(x @ self.rows), self.columns)


MATRICES = {
    "up": lambda w: w.transpose(0, 1),
    "grouped": lambda w: w.reshape(2, 6, 4, 3, 3).transpose(1, 2).reshape(8, 6, 3, 3),
    "split": lambda w: w.permute(1, 2, 0).reshape(12, 8),
    "joined": lambda w: w.reshape(12, 8).T,
    "rows": lambda w: w.T,
    "columns": lambda w: w,
}
"""The weight of each layer that has inputs as outputs by inputs by places of the kernel."""


@pytest.fixture(scope="module")
def arranged():
    torch.manual_seed(0)
    model = Arranged().eval()
    return model, trace_structure(model, torch.rand(2, 1, 4, 4))


def pruned_at_smallest(model, structure, pattern):
    problem = weight_problem(structure, None, pattern=pattern)
    options = WeightTableOptions(pattern=WEIGHT_PATTERNS.get(pattern))
    evidence = Evidence(model, structure, [torch.rand(20, 1, 4, 4)])
    table = build_weight_tables(model, structure, Magnitude(), evidence, options)
    pruner = WeightPruner(model, structure, table)
    return problem, pruner.prune(problem.allocation(tuple(decision.size // 2 for decision in problem.decisions)))


def test_two_of_four_inputs_stay_wherever_the_inputs_lie(arranged):
    model, structure = arranged
    problem, pruned = pruned_at_smallest(model, structure, "2of4")
    # `grouped` reads 6 channels a group, and `tied` reads along both of its axes; the stem reads one channel
    assert [decision.name for decision in problem.decisions] == ["up", "split", "joined", "rows", "columns"]
    tensors = dict(pruned.named_parameters())
    for layer in structure.layers:
        if layer.name in {decision.name for decision in problem.decisions}:
            rows = MATRICES[layer.name](tensors[layer.weight]).movedim(1, -1)
            assert bool(((rows.reshape(-1, 4) != 0).sum(1) == 2).all())
    assert bool(tensors["grouped.weight"].all())
    assert bool(tensors["tied"].all())


def test_blocks_lie_along_the_inputs_too(arranged):
    model, structure = arranged
    problem, pruned = pruned_at_smallest(model, structure, "4x4")
    assert [decision.name for decision in problem.decisions] == ["up", "split", "joined", "rows"]
    tensors = dict(pruned.named_parameters())
    for name in ("split", "joined", "rows"):
        blocks = (MATRICES[name](tensors[name]) != 0).unfold(0, 4, 4).unfold(1, 4, 4).flatten(2)
        assert bool((blocks.all(2) | ~blocks.any(2)).all())
        assert int(blocks.all(2).sum()) * 2 == blocks.shape[0] * blocks.shape[1]


def test_kernels_are_those_of_convolutions_alone(arranged):
    _model, structure = arranged
    steps = {layer.name: WEIGHT_PATTERNS.get("kernel").step(layer.matrix_shape) for layer in structure.layers}
    assert steps == dict.fromkeys(steps, 1) | dict.fromkeys(("stem", "up", "grouped"), 9)


@pytest.mark.parametrize("name", MATRICES)
def test_matrices_are_outputs_by_inputs_by_places(arranged, name):
    model, structure = arranged
    layer = next(layer for layer in structure.layers if layer.name == name)
    weight = dict(model.named_parameters())[layer.weight].detach()
    matrix = layer.axes.to_matrix(weight)
    assert torch.equal(matrix, MATRICES[name](weight))
    assert matrix.shape == layer.matrix_shape
    assert torch.equal(layer.axes.from_matrix(matrix, layer.weight_shape), weight)


def test_axes_by_hand():
    assert WeightAxes().matrix_shape((10, 7)) == (10, 7)
    assert WeightAxes().matrix_shape((10, 7, 3, 5)) == (10, 7, 3, 5)
    assert WeightAxes().in_two_ways.matrix_shape((10, 7, 3, 5)) == (70, 1, 3, 5)
    assert axes_of_product(3, (1,)).matrix_shape((4, 10, 7)) == (28, 10)
    assert axes_of_convolution((0, 1, 2), transposed=True, groups=2).matrix_shape((10, 7, 3)) == (14, 5, 3)
    assert axes_of_convolution((0, 1, -1, -1)).matrix_shape((10, 7)) == (10, 7)  # `w[:, :, None, None]`


class Pair(nn.Module):
    """A module with two weights of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.w1, self.w2 = (nn.Parameter(torch.randn(shape) / 4) for shape in ((12, 16), (10, 12)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(functional.relu(functional.linear(x.flatten(1), self.w1)), self.w2)


class Recurrent(nn.Module):
    """An LSTM, whose four weights are its own, and a layer that reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.LSTM(4, 6, num_layers=2, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.cells(x.squeeze(1))[0][:, -1])


class Sides(nn.Module):
    """Attention whose keys and values have a width of their own, so that its three projections are three parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(4, 8)
        self.attention = nn.MultiheadAttention(8, 2, kdim=4, vdim=4, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.squeeze(1)
        return self.attention(self.query(x), x, x)[0].mean(1)


class Held(nn.Module):
    """Holds another module."""

    def __init__(self, pair: nn.Module) -> None:
        super().__init__()
        self.pair = pair

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pair(x)


NAMES = {
    Pair: ["pair.w1", "pair.w2"],
    Recurrent: [*(f"pair.cells.weight_{way}h_l{layer}" for layer in (0, 1) for way in "ih"), "pair.head"],
    Sides: ["pair.query", *(f"pair.attention.{part}_proj_weight" for part in "qkv"), "pair.attention.out_proj"],
}


@pytest.mark.parametrize("build", NAMES)
@pytest.mark.parametrize("criterion", [Magnitude, OptimalBrainSurgeon])
def test_each_weight_of_a_module_is_pruned_under_its_own_name(build, criterion):
    torch.manual_seed(0)
    model = Held(build())
    images = torch.rand(60, 1, 4, 4)
    structure = trace_structure(model.eval(), images[:1])
    problem = weight_problem(structure, Budget(params=0.5))
    assert [decision.name for decision in problem.decisions] == NAMES[build]
    widths = tuple(max(decision.smallest, decision.size // 3) for decision in problem.decisions)
    table = build_weight_tables(model, structure, criterion(), Evidence(model, structure, [images]))
    pruned = WeightPruner(model, structure, table).prune(problem.allocation(widths))
    weights = {layer.name: layer.weight for layer in structure.layers}
    tensors = dict(pruned.named_parameters())
    assert [int(tensors[weights[name]].count_nonzero()) for name in NAMES[build]] == list(widths)
    assert effective_costs(pruned, images[:1]) == problem.costs_of(widths)
    assert count_params(model) == problem.cost(tuple(decision.size for decision in problem.decisions), "params")


def test_rules_name_a_weight_or_the_module_that_holds_it():
    model = Held(Pair())
    structure = trace_structure(model.eval(), torch.rand(1, 1, 4, 4))
    (left,) = weight_problem(structure, None, exclude=["pair.w1"]).decisions
    assert left.name == "pair.w2"
    bounded = weight_problem(structure, None, bounds={"pair": (0.25, 0.5)}).decisions
    assert [(decision.smallest, decision.largest) for decision in bounded] == [(96, 144), (60, 90)]
    with pytest.raises(UnknownNameError, match=r"unknown layer pattern 'pair.w3'; did you mean 'pair.w"):
        weight_problem(structure, None, exclude=["pair.w3"])
