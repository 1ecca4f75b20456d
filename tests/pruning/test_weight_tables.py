"""Tables of the weight family: an episode looks up what least squares says, and the candidate is the network."""

from __future__ import annotations

import copy
from dataclasses import replace
from math import prod

import pytest
import torch

from amc.errors import ConfigurationError
from amc.pruning import (
    CandidateNetwork,
    Evidence,
    EvidenceOptions,
    ReconstructionOptions,
    SparseSolver,
    WeightPruner,
    WeightTableOptions,
    build_weight_tables,
    reconstruct,
)
from amc.pruning.criteria.norms import Magnitude
from amc.pruning.criteria.surgeon import OptimalBrainSurgeon
from amc.pruning.regression.patches import input_rows
from amc.pruning.sequential_candidates import SequentialCandidates
from amc.pruning.weight_tables import count_grids
from amc.structure import Allocation

CRITERIA = {"obs": OptimalBrainSurgeon, "magnitude": Magnitude}


def many_images(case, count=400):
    return replace(case, images=torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(9)))


def pruner_of(case, criterion="obs", **options):
    evidence = Evidence(case.model, case.structure, [case.images], (), EvidenceOptions(ridge=1e-9))
    table = build_weight_tables(
        case.model, case.structure, CRITERIA[criterion](), evidence, WeightTableOptions(**options)
    )
    return WeightPruner(case.model, case.structure, table)


def half(case):
    return Allocation(
        "weight", {layer.name: torch.Size(layer.weight_shape).numel() // 2 for layer in case.structure.layers}
    )


@torch.no_grad()
@pytest.mark.parametrize("criterion", CRITERIA)
def test_refitted_values_are_the_least_squares_solution_of_what_stays(net, criterion):
    net = many_images(net)
    table = pruner_of(net, criterion).table.layers["head"]
    count = table.grid[len(table.grid) // 2]
    weight, intercept = table.lookup(count)
    stream = torch.relu(net.model.expand(net.model.block2(net.model.block1(torch.relu(net.model.stem(net.images))))))
    rows = torch.nn.functional.adaptive_avg_pool2d(stream, 2).flatten(1).double()
    dense = net.model.head.weight.double()
    second = torch.minimum(rows.square().mean(), 4 * (rows - rows.mean(0)).square().mean())  # see `damping_of`
    ridge = (rows.shape[1] * second).sqrt()  # features per row, over all rows
    for output in range(4):
        stays = table.ranks[output] < count
        design = torch.cat([rows[:, stays], torch.ones(len(rows), 1)], 1)
        pull = torch.cat([ridge * torch.eye(int(stays.sum())), torch.zeros(int(stays.sum()), 1)], 1).double()
        target = torch.cat([rows @ dense[output], ridge * dense[output, stays]])
        best = torch.linalg.lstsq(torch.cat([design, pull]), target[:, None]).solution[:, 0]
        torch.testing.assert_close(weight[output, stays].double(), best[:-1], rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(intercept[output].double(), best[-1], rtol=1e-3, atol=1e-4)
    assert int(weight.count_nonzero()) == count


@torch.no_grad()
def test_errors_of_the_table_are_those_measured_on_the_layer(net):
    net = many_images(net)
    table = pruner_of(net).table.layers["block1.conv2"]
    layer, count = net.model.block1.conv2, table.grid[3]
    seen = []
    hook = layer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    net.model(net.images)
    hook.remove()
    rows = input_rows(seen[0], (8, 8), layer, None)[0].double()
    weight, intercept = table.lookup(count)
    off = rows @ (weight - layer.weight).flatten(1).double().T + intercept
    dense = rows @ layer.weight.flatten(1).double().T
    evidence = Evidence(net.model, net.structure, [net.images])
    counts = evidence.importance(next(spec for spec in net.structure.layers if spec.name == "block1.conv2"))
    assert table.errors[count] == pytest.approx(float(off.square().mean(0) @ counts), rel=0.05)
    assert table.errors[0] == pytest.approx(float((dense - dense.mean(0)).square().mean(0) @ counts), rel=0.05)
    assert list(table.errors.values()) == sorted(table.errors.values(), reverse=True)


def test_counts_between_two_of_the_grid_keep_exactly_as_many_and_lie_between_them(net):
    table = pruner_of(many_images(net)).table.layers["block2.conv1"]
    below, above = table.grid[-3], table.grid[-2]
    assert above - below > 2
    middle = (below + above) // 2
    weight, _ = table.lookup(middle)
    assert int(weight.count_nonzero()) == middle
    ends = [table.lookup(count)[0] for count in (below, above)]
    stays = table.ranks < below
    low, high = torch.minimum(*ends)[stays], torch.maximum(*ends)[stays]
    assert bool((weight[stays] >= low - 1e-6).all() & (weight[stays] <= high + 1e-6).all())


def test_a_surgeons_masks_lose_less_than_those_of_magnitude(net):
    net = many_images(net)
    by_surgeon, by_magnitude = (pruner_of(net, name).table.layers for name in ("obs", "magnitude"))
    for name, table in by_surgeon.items():
        count = table.grid[len(table.grid) // 2]
        assert table.errors[count] <= by_magnitude[name].errors[count]


@pytest.mark.parametrize("refit", [True, False])
def test_the_candidate_is_the_pruned_network(case, refit):
    pruner = pruner_of(case, refit=refit)
    candidate = CandidateNetwork(pruner)
    images = [candidate.prepare(case.images)]
    for allocation in (half(case), Allocation("weight", {}), half(case)):
        with torch.no_grad():
            expected = pruner.prune(allocation).eval()(case.images)
        torch.testing.assert_close(candidate.logits(allocation, images), expected, rtol=1e-4, atol=1e-4)


def test_grids_fit_into_the_memory_and_end_with_the_dense_layer():
    free = count_grids({"a": (100, 100), "b": (1, 7)}, WeightTableOptions())
    assert free["a"][-1] == 10_000
    assert free["a"][0] == 100
    assert free["b"] == (1, 2, 3, 4, 5, 6, 7)
    bound = count_grids({"a": (100, 100), "b": (1, 7)}, WeightTableOptions(memory=100_000))
    assert 4 * sum(sum(grid) for grid in bound.values()) <= 100_000 < 4 * sum(free["a"])
    assert bound["a"][-1] == 10_000


@torch.no_grad()
@pytest.mark.parametrize("criterion", CRITERIA)
def test_the_sequential_refit_keeps_as_many_weights_and_comes_closer_on_unseen_images(net, criterion):
    net = many_images(net, 600)
    calibration, unseen = net.images[:400], net.images[400:]
    pruner, allocation = pruner_of(replace(net, images=calibration), criterion), half(net)
    pruned = pruner.prune(allocation).eval()
    before = (pruned(unseen) - net.model(unseen)).square().mean()
    refit, masks = copy.deepcopy(pruned), pruner.masks(allocation)
    evidence = Evidence(net.model, net.structure, [calibration])
    importance = {layer.name: evidence.importance(layer) for layer in net.structure.layers}
    solver = SparseSolver(masks, CRITERIA[criterion](), importance=importance)
    reconstruct(refit, net.model, net.structure, {}, calibration, ReconstructionOptions(), sparse=masks, solver=solver)
    assert float((refit(unseen) - net.model(unseen)).square().mean()) < 0.95 * float(before)
    for name, mask in masks.items():
        stays = refit.get_submodule(name).weight != 0
        assert int(stays.sum()) == int(mask.sum())
        if criterion == "magnitude":
            assert torch.equal(stays, mask)


@torch.no_grad()
def test_a_candidate_refit_in_sequence_is_nearer_to_the_delivery_than_the_tables_are(net):
    net = many_images(net, 600)
    pruner = pruner_of(net)
    calibration, unseen = net.images[:400], net.images[400:]
    candidates = SequentialCandidates(pruner, calibration[:100])
    masks = pruner.masks(half(net))
    delivered = pruner.prune(half(net))
    options = ReconstructionOptions()
    solver = SparseSolver(masks, None)
    reconstruct(delivered, net.model, net.structure, {}, calibration, options, sparse=masks, solver=solver)
    expected = delivered(unseen)
    off = [(found.prune(half(net))(unseen) - expected).square().mean() for found in (pruner, candidates)]
    assert off[1] < off[0]
    plan = candidates.plan(half(net))
    for layer in net.structure.layers:
        assert torch.equal(plan.tensors[layer.weight] != 0, masks[layer.name])
    again = candidates.plan(half(net))
    assert all(torch.equal(again.tensors[name], tensor) for name, tensor in plan.tensors.items())
    assert not candidates.plan(Allocation("weight", {})).tensors
    dense = [tensor.clone() for tensor in net.model.state_dict().values()]
    network = CandidateNetwork(candidates)
    torch.testing.assert_close(
        network.logits(half(net), [network.prepare(unseen)]), candidates.prune(half(net))(unseen), rtol=1e-4, atol=1e-4
    )
    assert all(torch.equal(old, new) for old, new in zip(dense, net.model.state_dict().values(), strict=True))


def test_layers_that_stay_dense_need_no_table_and_an_allocation_that_prunes_one_is_refused(net):
    evidence = Evidence(net.model, net.structure, [net.images], (), EvidenceOptions(ridge=1e-9))
    seen = []
    table = build_weight_tables(
        net.model,
        net.structure,
        Magnitude(),
        evidence,
        None,
        lambda share, note="", /: seen.append(share),
        only={"head"},
    )
    assert list(table.layers) == ["head"]
    assert seen == [1.0]
    pruner, size = WeightPruner(net.model, net.structure, table), net.model.head.weight.numel()
    other = net.structure.layers[0]
    pruned = pruner.prune(Allocation("weight", {"head": size // 2, other.name: prod(other.weight_shape)}))
    assert int((pruned.head.weight != 0).sum()) == size // 2
    with pytest.raises(ConfigurationError, match=f"layer '{other.name}' stays dense under these rules.*exclude"):
        pruner.prune(Allocation("weight", {other.name: 1}))
