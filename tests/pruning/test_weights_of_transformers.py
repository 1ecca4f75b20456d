"""Projections of attention, embeddings and bare parameters lose weights like any other layer."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from amc.costs import Budget
from amc.problem import weight_problem
from amc.pruning import (
    CandidateNetwork,
    Evidence,
    SparseSolver,
    WeightPruner,
    WeightTableOptions,
    build_weight_tables,
    reconstruct,
)
from amc.pruning.criteria.surgeon import OptimalBrainSurgeon
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


def test_the_refit_of_what_is_no_layer_of_its_own_leaves_values_as_they_were(words):
    model, structure, numbers = words
    evidence = Evidence(model, structure, [numbers])
    table = build_weight_tables(model, structure, OptimalBrainSurgeon(), evidence, WeightTableOptions())
    weight, intercept = table.layers["words"].lookup(100)
    assert intercept is None
    kept = weight != 0
    assert torch.equal(weight[kept], model.words.weight[kept])
