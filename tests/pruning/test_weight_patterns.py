"""What every pattern keeps to, and small examples by hand."""

from __future__ import annotations

from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from amc.costs import Budget
from amc.errors import ConfigurationError, UnknownNameError
from amc.problem import weight_problem
from amc.pruning import (
    Evidence,
    PruningConfig,
    ReconstructionOptions,
    SparseSolver,
    WeightPruner,
    WeightTableOptions,
    build_weight_tables,
    reconstruct,
)
from amc.pruning.criteria.surgeon import OptimalBrainSurgeon
from amc.pruning.weight_patterns import WEIGHT_PATTERNS, Blocks, NOfM
from amc.structure import Allocation
from amc.tracing.trace import trace_structure

SHAPES = [(8, 8), (8, 8, 3, 3), (4, 16, 1, 3), (6, 5, 3, 3), (12, 1, 3, 3)]


def scores_of(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def windows(mask, size):
    """Consecutive inputs of each output at each place of the kernel, `(windows, size)`."""
    return mask.movedim(1, -1).reshape(-1, size)


def blocks(mask, outputs, inputs):
    """`(blocks, places of the kernel, outputs * inputs)`."""
    rows, columns = mask.shape[:2]
    split = mask.reshape(rows // outputs, outputs, columns // inputs, inputs, -1).permute(0, 2, 4, 1, 3)
    return split.flatten(3).flatten(0, 1)


@pytest.mark.parametrize("name", WEIGHT_PATTERNS.names())
@pytest.mark.parametrize("shape", SHAPES)
def test_every_pattern_ranks_each_weight_once_and_prefers_high_scores(name, shape):
    pattern, scores = WEIGHT_PATTERNS.get(name), scores_of(shape)
    step = pattern.step(shape)
    if step is None:
        return
    ranks = pattern.ranks(scores)
    assert ranks.shape == shape
    assert ranks.dtype == torch.int32
    assert sorted(ranks.flatten().tolist()) == list(range(prod(shape)))
    assert prod(shape) % step == 0
    half = max(step, prod(shape) // 2 // step * step)
    if half < prod(shape):
        assert scores[ranks < half].mean() > scores[ranks >= half].mean()


@pytest.mark.parametrize("name", WEIGHT_PATTERNS.names())
def test_every_pattern_is_explained(name):
    assert next(entry.summary for entry in WEIGHT_PATTERNS.entries() if entry.name == name)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([(2, 4), (4, 8), (1, 4)]), st.integers(0, 100), st.sampled_from([(8, 8), (8, 8, 3, 3)]))
def test_n_of_m_keeps_the_n_best_of_every_window(n_of_m, seed, shape):
    pattern, scores = NOfM(*n_of_m), scores_of(shape, seed)
    mask = pattern.ranks(scores) < pattern.step(shape)
    for kept, values in zip(windows(mask, pattern.window), windows(scores, pattern.window), strict=True):
        assert sorted(kept.nonzero().flatten().tolist()) == sorted(values.topk(pattern.kept).indices.tolist())


def test_two_of_four_as_in_the_example():
    weight = torch.tensor([[0.1, -0.5, 0.3, 0.2]])
    assert (NOfM(2, 4).ranks(weight.abs()) < 2).tolist() == [[False, True, True, False]]


@pytest.mark.parametrize(("name", "outputs", "inputs"), [("1x4", 1, 4), ("4x4", 4, 4)])
def test_blocks_stay_or_go_whole_by_their_sum(name, outputs, inputs):
    pattern, scores = WEIGHT_PATTERNS.get(name), scores_of((8, 8, 3, 3))
    step = pattern.step((8, 8, 3, 3))
    assert step == outputs * inputs
    kept = blocks(pattern.ranks(scores) < 5 * step, outputs, inputs)
    assert bool((kept.all(2) | ~kept.any(2)).all())
    sums = blocks(scores, outputs, inputs).sum(2).flatten()
    assert sorted(kept.all(2).flatten().nonzero().flatten().tolist()) == sorted(sums.topk(5).indices.tolist())


def test_whole_kernels_stay_or_go():
    pattern, scores = WEIGHT_PATTERNS.get("kernel"), scores_of((4, 6, 3, 3))
    kept = (pattern.ranks(scores) < 9 * 7).flatten(2)
    assert bool((kept.all(2) | ~kept.any(2)).all())
    assert int(kept.all(2).sum()) == 7
    assert pattern.step((4, 6)) == 1


def test_a_layer_that_a_pattern_does_not_fit_stays_dense(net):
    structure = trace_structure(net.model, net.images[:1])
    names = {decision.name for decision in weight_problem(structure, None, pattern="4x4").decisions}
    assert names == {"head"}  # 20 inputs and 4 outputs; the convolutions have 3, 5, 6, 8 or 10 channels
    with pytest.raises(UnknownNameError, match="unknown pattern '2of5'"):
        weight_problem(structure, None, pattern="2of5")


def test_the_only_choice_of_two_of_four_is_which_layers_are_sparse(net):
    structure = trace_structure(net.model, net.images[:1])
    problem = weight_problem(structure, Budget(params=0.9), pattern="2of4")
    assert [decision.levels for decision in problem.decisions] == [2] * len(problem.decisions)
    assert all(problem.min_widths[i] * 2 == d.size for i, d in enumerate(problem.decisions))


@torch.no_grad()
@pytest.mark.parametrize("name", ["2of4", "1x4", "kernel"])
def test_tables_and_the_sequential_refit_keep_to_the_pattern(net, name):
    pattern = WEIGHT_PATTERNS.get(name)
    evidence = Evidence(net.model, net.structure, [net.images])
    options = WeightTableOptions(pattern=pattern)
    table = build_weight_tables(net.model, net.structure, OptimalBrainSurgeon(), evidence, options)
    pruner = WeightPruner(net.model, net.structure, table)
    fitting = {layer.name: layer.weight_shape for layer in net.structure.layers if pattern.step(layer.weight_shape)}
    counts = {n: max(pattern.step(s), prod(s) // 2 // pattern.step(s) * pattern.step(s)) for n, s in fitting.items()}
    pruned = pruner.prune(Allocation("weight", counts))
    masks = pruner.masks(Allocation("weight", counts))
    refit = pruner.prune(Allocation("weight", counts)).eval()
    solver = SparseSolver(masks, OptimalBrainSurgeon(), pattern)
    reconstruct(refit, net.model, net.structure, {}, net.images, ReconstructionOptions(), sparse=masks, solver=solver)
    for network in (pruned, refit):
        for layer, count in counts.items():
            mask = network.get_submodule(layer).weight != 0
            assert int(mask.sum()) == count
            if name == "2of4":
                assert bool((windows(mask, 4).sum(1) == 2).all())
            else:
                whole = blocks(mask, 1, 4) if name == "1x4" else mask.reshape(*mask.shape[:2], -1)
                assert bool((whole.all(2) | ~whole.any(2)).all())


def test_a_pattern_needs_the_weight_family():
    PruningConfig(family="weight", pattern="2of4")
    with pytest.raises(ConfigurationError, match=r"'2of4' needs pruning\.family weight"):
        PruningConfig(pattern="2of4")
    with pytest.raises(UnknownNameError, match="unknown pattern"):
        PruningConfig(family="weight", pattern="3x3")


def test_blocks_of_several_outputs_and_whole_kernels():
    pattern, scores = Blocks(2, 2, kernel=True), scores_of((4, 4, 3, 3))
    assert pattern.step((4, 4, 3, 3)) == 36
    kept = (pattern.ranks(scores) < 36).reshape(2, 2, 2, 2, 9).permute(0, 2, 1, 3, 4).flatten(2).flatten(0, 1)
    assert kept.sum(1).tolist().count(36) == 1
    assert int(kept.sum()) == 36
