"""Projections of attention, embeddings and bare parameters lose weights like any other layer."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from amc.costs import Budget
from amc.costs.counting import count_params
from amc.problem import weight_problem
from amc.problem.effective import effective_costs
from amc.pruning import (
    CandidateNetwork,
    Evidence,
    EvidenceOptions,
    SparseSolver,
    WeightPruner,
    WeightTableOptions,
    build_weight_tables,
    reconstruct,
)
from amc.pruning.criteria.gradients import SnipWeights
from amc.pruning.criteria.surgeon import OptimalBrainSurgeon
from amc.pruning.regression.statistics import SamplingOptions
from amc.tracing.trace import trace_structure


class Words(nn.Module):
    """Self-attention, attention between sequences of one length and of two, on looked-up words."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(40, 16)
        self.own, self.cross, self.uneven = (nn.MultiheadAttention(16, 2, batch_first=True) for _ in range(3))
        self.matrix = nn.Parameter(torch.randn(4, 16) / 4)

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        x = self.words(numbers)
        x = x + self.own(x, x, x, need_weights=False)[0]
        x = x + self.cross(x, x.flip(1), x.flip(1), need_weights=False)[0]
        x = x[:, :3] + self.uneven(x[:, :3], x, x, need_weights=False)[0]
        return functional.linear(x.mean(1), self.matrix)


@pytest.fixture
def words():
    torch.manual_seed(0)
    model = Words().eval()
    numbers = torch.randint(40, (120, 7))
    return model, trace_structure(model, numbers[:1], verify="nothing"), numbers


def test_layers_whose_weights_are_used_equally_often_are_decisions_and_their_costs_are_exact(words):
    _model, structure, _numbers = words
    problem = weight_problem(structure, Budget(params=0.3))
    names = [decision.name for decision in problem.decisions]
    assert names == ["words", "own", "own.out_proj", "cross", "cross.out_proj", "uneven.out_proj", "matrix"]
    dense = problem.dense_widths
    half = [width // 2 for width in dense]
    lost = {name: (width - kept) for name, width, kept in zip(names, dense, half, strict=True)}
    costs = problem.costs_of(half)
    assert problem.dense_costs["params"] - costs["params"] == sum(lost.values())
    uses = {"words": 0, "uneven.out_proj": 3, "matrix": 1}
    expected = sum(count * uses.get(name, 7) for name, count in lost.items())
    assert problem.dense_costs["flops"] - costs["flops"] == expected


@torch.no_grad()
def test_they_keep_as_many_weights_as_decided_in_candidate_and_delivery(words):
    model, structure, numbers = words
    problem = weight_problem(structure, Budget(params=0.4))
    evidence = Evidence(model, structure, [numbers])
    criterion = OptimalBrainSurgeon()
    pruner = WeightPruner(model, structure, build_weight_tables(model, structure, criterion, evidence))
    allocation = problem.allocation(problem.project([1.0] * len(problem.decisions)))
    pruned = pruner.prune(allocation)
    masks = pruner.masks(allocation)
    reconstruct(pruned, model, structure, {}, numbers, sparse=masks, solver=SparseSolver(masks, criterion))
    for layer in problem.layers:
        assert int(pruned.get_parameter(layer.weight).count_nonzero()) == allocation.widths[layer.name]
    candidate = CandidateNetwork(pruner)
    logits = candidate.logits(allocation, [candidate.prepare(numbers)])
    torch.testing.assert_close(logits, pruner.prune(allocation)(numbers), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_what_attention_multiplies_itself_is_refit_by_least_squares(words):
    model, structure, numbers = words
    evidence = Evidence(model, structure, [numbers], (), EvidenceOptions(ridge=1e-9))
    tables = build_weight_tables(model, structure, OptimalBrainSurgeon(), evidence).layers
    looked_up = model.words(numbers)
    own = looked_up + model.own(looked_up, looked_up, looked_up)[0]
    crossed = own + model.cross(own, own.flip(1), own.flip(1))[0]
    last = crossed[:, :3] + model.uneven(crossed[:, :3], crossed, crossed)[0]
    read = {"own": looked_up, "matrix": last.mean(1)}
    weights = {"own": model.own.in_proj_weight, "matrix": model.matrix}
    for name, rows in read.items():
        features, dense = rows.flatten(0, -2).double(), weights[name].double()
        count = tables[name].grid[len(tables[name].grid) // 2]
        weight, intercept = tables[name].lookup(count)
        assert (intercept is None) == (name == "matrix")
        ridge = (features.shape[1] * features.square().mean()).sqrt()
        for output in range(len(dense)):
            stays = tables[name].ranks[output] < count
            constant = torch.full((len(features), 1), float(intercept is not None), dtype=torch.float64)
            pull = torch.cat([ridge * torch.eye(int(stays.sum())), torch.zeros(int(stays.sum()), 1)], 1).double()
            design = torch.cat([torch.cat([features[:, stays], constant], 1), pull])
            target = torch.cat([features @ dense[output], ridge * dense[output, stays]])
            best = torch.linalg.lstsq(design, target[:, None], driver="gelsd").solution[:, 0]
            torch.testing.assert_close(weight[output, stays].double(), best[:-1], rtol=1e-3, atol=1e-4)
            if intercept is not None:
                torch.testing.assert_close(intercept[output].double(), best[-1], rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_the_output_projection_of_attention_reads_what_the_heads_make(words):
    model, structure, numbers = words
    gram = Evidence(model, structure, [numbers]).gram("own.out_proj")
    looked_up = model.words(numbers)
    query, key, value = (
        part.unflatten(-1, (2, 8)).transpose(1, 2)
        for part in functional.linear(looked_up, model.own.in_proj_weight, model.own.in_proj_bias).chunk(3, -1)
    )
    heads = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(-1, 16)
    torch.testing.assert_close(gram.matrix[0], heads.T @ heads / len(heads), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_no_more_rows_are_drawn_of_bare_weights_than_of_layers(words):
    model, structure, numbers = words
    options = EvidenceOptions(sampling=SamplingOptions(rows=100))
    evidence = Evidence(model, structure, list(numbers.split(30)), (), options)
    assert [evidence.gram(name).rows for name in ("own", "uneven.out_proj")] == [100, 100]


def test_embeddings_and_attention_between_sequences_keep_their_values(words):
    model, structure, numbers = words
    evidence = Evidence(model, structure, [numbers])
    table = build_weight_tables(model, structure, OptimalBrainSurgeon(), evidence, WeightTableOptions())
    for name, dense in (("words", model.words.weight), ("cross", model.cross.in_proj_weight)):
        weight, intercept = table.layers[name].lookup(100)
        assert intercept is None
        kept = weight != 0
        assert torch.equal(weight[kept], dense[kept])


class Halved(nn.Linear):
    """A linear layer of its own kind, which adds half of its bias."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, self.weight) + self.bias / 2


@torch.no_grad()
def test_linear_layers_of_another_kind_keep_their_values_and_biases():
    torch.manual_seed(0)
    model, images = nn.Sequential(Halved(8, 6), nn.ReLU(), nn.Linear(6, 3)).eval(), torch.randn(50, 8)
    structure = trace_structure(model, images[:1], verify="nothing")
    tables = build_weight_tables(model, structure, OptimalBrainSurgeon(), Evidence(model, structure, [images])).layers
    weight, intercept = tables["0"].lookup(24)
    assert intercept is None
    assert torch.equal(weight[weight != 0], model[0].weight[weight != 0])


class Fixed(nn.Module):
    """Multiplies with a matrix that is no parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 8), nn.Linear(6, 3)
        self.register_buffer("matrix", torch.randn(6, 8))
        self.register_buffer("passing", torch.randn(6, 6), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        read = functional.linear(self.first(x).relu(), self.matrix).relu()
        return self.last(functional.linear(read, self.passing).relu())


@torch.no_grad()
def test_matrices_that_are_no_parameters_are_refit_too():
    torch.manual_seed(0)
    model, images = Fixed().eval(), torch.randn(50, 8)
    structure = trace_structure(model, images[:1], verify="nothing")
    evidence = Evidence(model, structure, [images])
    tables = build_weight_tables(model, structure, OptimalBrainSurgeon(), evidence).layers
    read = model.first(images).relu()
    torch.testing.assert_close(evidence.gram("matrix").matrix[0], read.T @ read / 50, rtol=1e-4, atol=1e-5)
    assert int(tables["matrix"].lookup(24)[0].count_nonzero()) == 24


@pytest.fixture
def fixed():
    torch.manual_seed(0)
    model, images = Fixed().eval(), torch.randn(50, 8)
    return model, trace_structure(model, images[:1], verify="nothing"), images


def test_matrices_that_are_no_parameters_count_among_none_and_those_that_no_file_holds_stay(fixed):
    model, structure, _ = fixed
    problem = weight_problem(structure, Budget(params=0.5))
    assert [decision.name for decision in problem.decisions] == ["first", "matrix", "last"]
    assert problem.cost(problem.dense_widths) == count_params(model) == 8 * 8 + 8 + 6 * 3 + 3
    assert problem.cost((30, 10, 9)) == 30 + 8 + 9 + 3
    assert problem.cost((30, 10, 9), "flops") == 30 + 10 + 9 + 6 * 6


@torch.no_grad()
def test_zeros_in_matrices_that_are_no_parameters_cost_nothing(fixed):
    model, _, images = fixed
    model.matrix[:, 3:] = 0
    assert effective_costs(model, images[:1])["flops"] == 8 * 8 + 6 * 3 + 6 * 6 + 6 * 3


def test_the_connection_sensitivity_of_matrices_that_are_no_parameters_is_that_of_parameters(fixed):
    model, structure, images = fixed
    labels = torch.arange(50) % 3
    layer = next(layer for layer in structure.layers if layer.name == "matrix")
    found = SnipWeights()(layer, Evidence(model, structure, [images], [labels]))
    assert not model.matrix.requires_grad
    model.matrix.requires_grad_(True)
    functional.cross_entropy(model(images), labels).backward()
    torch.testing.assert_close(found, (model.matrix * model.matrix.grad).abs().detach())


def test_scores_of_weights_that_no_module_runs_are_in_the_unit_of_the_others(words):
    """The sum of the scores of a layer is what its loss does to the output; what is not known is taken to be alike."""
    model, structure, numbers = words
    with torch.no_grad():
        model.matrix.mul_(1e-3)  # nothing ahead of it matters much any more
    evidence = Evidence(model, structure, [numbers])
    surgeon, energies = OptimalBrainSurgeon(), {n: known.energy for n, known in evidence.sensitivities.items()}
    assert list(energies) == ["words", "own.out_proj", "cross.out_proj", "uneven.out_proj"]
    sums = {layer.name: float(surgeon(layer, evidence).sum()) for layer in structure.layers}
    mean = sum(energies.values()) / len(energies)
    for name in ("own", "cross", "matrix"):
        assert sums[name] == pytest.approx(mean, rel=1e-6)
    assert sums["words"] == pytest.approx(energies["words"], rel=1e-6)


@torch.no_grad()
def test_the_error_of_the_output_projection_is_known_as_a_module_returns_it(words):
    model, structure, numbers = words
    evidence = Evidence(model, structure, [numbers])
    tables = build_weight_tables(model, structure, OptimalBrainSurgeon(), evidence).layers
    layer = next(layer for layer in structure.layers if layer.name == "own.out_proj")
    gram = evidence.gram(layer.name)
    centred = (gram.matrix - gram.mean[:, :, None] * gram.mean[:, None])[0].double()
    lost = model.own.out_proj.weight.double()
    expected = float(((lost @ centred) * lost).sum(1) @ evidence.importance(layer))
    assert tables[layer.name].errors[0] == pytest.approx(expected, rel=0.05)  # but for the ridge
    assert not tables["own"].errors
