from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from amc.pruning import FilterPruner, ReconstructionOptions, TableOptions, build_tables, reconstruct
from amc.pruning.regression.least_squares import Moments
from amc.pruning.regression.patches import input_rows
from amc.structure import Allocation
from amc.tracing.trace import trace_structure


def pruned_of(case, *widths):
    table = build_tables(case.model, case.structure, [case.images], TableOptions())
    pruner = FilterPruner(case.model, case.structure, table)
    allocation = case.allocation(*widths)
    return pruner.prune(allocation), pruner.kept(allocation)


def fresh_images(count):
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(9))


def stream(model, images):
    return model.block2(model.block1(torch.relu(model.stem(images))))


@torch.no_grad()
def test_reconstruction_brings_unseen_activations_closer(net):
    net = replace(net, images=fresh_images(400))
    pruned, kept = pruned_of(net, 3, 4, 5)
    before = (stream(pruned, net.images[300:]) - stream(net.model, net.images[300:])).square().mean()
    reconstruct(pruned, net.model, net.structure, kept, net.images[:300])
    after = (stream(pruned, net.images[300:]) - stream(net.model, net.images[300:])).square().mean()
    assert float(after) < 0.95 * float(before)


@torch.no_grad()
def test_a_refit_from_the_dense_inputs_is_already_the_solution_where_one_layer_alone_is_pruned(grouped):
    grouped = replace(grouped, images=fresh_images(800))  # with few rows the ridge, applied twice, would show
    pruned, kept = pruned_of(grouped, 2)
    before = pruned(grouped.images)
    reconstruct(pruned, grouped.model, grouped.structure, kept, grouped.images)
    torch.testing.assert_close(pruned(grouped.images), before, rtol=1e-2, atol=1e-2)


@torch.no_grad()
def test_a_dense_network_with_damaged_readers_is_restored(net):
    damaged = copy.deepcopy(net.model)
    damaged.block1.conv2.weight.mul_(0.5)
    damaged.block2.bn2.running_mean.add_(1.0)
    everything = {0: torch.arange(8)}
    reconstruct(damaged, net.model, net.structure, everything, fresh_images(200), ReconstructionOptions(ridge=1e-9))
    torch.testing.assert_close(damaged(net.images), net.model(net.images), rtol=1e-2, atol=1e-2)


@torch.no_grad()
def test_a_later_block_makes_up_for_the_error_of_the_stream(net):
    damaged = copy.deepcopy(net.model)
    damaged.block1.bn2.bias.add_(0.2)  # a batch norm is not refit: the convolution ahead has to make up for it
    reconstruct(damaged, net.model, net.structure, {0: torch.arange(8)}, net.images, ReconstructionOptions(ridge=1e-9))
    stream = damaged.block1(torch.relu(damaged.stem(net.images)))
    target = net.model.block1(torch.relu(net.model.stem(net.images)))
    torch.testing.assert_close(stream, target, rtol=1e-3, atol=1e-3)


def test_nothing_happens_without_a_cut(net):
    same = copy.deepcopy(net.model)
    reconstruct(same, net.model, net.structure, {}, net.images)
    for name, tensor in same.state_dict().items():
        assert torch.equal(tensor, net.model.state_dict()[name])


def test_reconstruction_repeats_to_the_bit_and_leaves_the_dense_network_alone(net):
    before = copy.deepcopy(net.model.state_dict())
    results = []
    for _ in range(2):
        pruned, kept = pruned_of(net, 4, 5, 3)
        reconstruct(pruned, net.model, net.structure, kept, net.images, ReconstructionOptions(rows=500))
        results.append(pruned.state_dict())
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])
    assert all(torch.equal(before[name], tensor) for name, tensor in net.model.state_dict().items())


def test_no_more_images_are_used_than_fit_into_memory(net):
    # The widest activation is that of block2.conv1: 10 channels of 8 x 8, four of them held, four bytes each.
    options = ReconstructionOptions(activation_memory=20 * 4 * 4 * 10 * 64)
    results = []
    for images, bound in ((net.images, options), (net.images[:20], ReconstructionOptions())):
        pruned, kept = pruned_of(net, 4, 5, 3)
        reconstruct(pruned, net.model, net.structure, kept, images, bound)
        results.append(pruned.state_dict())
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


def test_the_share_that_is_done_rises_to_one(net):
    shares = []
    pruned, kept = pruned_of(net, 4, 5, 3)
    reconstruct(pruned, net.model, net.structure, kept, net.images, advance=shares.append)
    assert len(shares) > 3
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


class Routed(nn.Module):
    """Three experts, each of which sees the images that a gate gives it, or all of them in an order of its own."""

    def __init__(self, route):
        super().__init__()
        self.first, self.gate, self.head = nn.Linear(6, 12), nn.Linear(12, 3), nn.Linear(12, 4)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 12)) for _ in range(3))
        self.route = route

    def forward(self, x):
        x = self.first(x).relu()
        return self.head(self.route(x, self.gate(x), self.experts))


def by_mask(x, gates, experts):
    chosen, out = gates.argmax(1), torch.zeros_like(x)
    for index, expert in enumerate(experts):
        out[chosen == index] = expert(x[chosen == index])
    return out


def by_need(x, gates, experts):
    """Runs an expert only if some image needs it."""
    out = x.clone()
    for index, expert in enumerate(experts):
        wanted = gates[:, index] > gates.mean(1) + 0.1
        if wanted.any():
            out[wanted] = expert(x[wanted])
    return out


def sorted_by_gate(x, gates, experts):
    order = gates[:, 0].argsort()
    return experts[0](x[order])[order.argsort()]


def rolled(x, gates, experts):
    return experts[0](x.roll(1, 0)).roll(-1, 0)


@torch.no_grad()
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("route", [by_mask, by_need, sorted_by_gate, rolled])
def test_experts_that_see_other_images_than_before_keep_the_refit_of_the_tables(route, seed):
    torch.manual_seed(seed)
    model, features = Routed(route), torch.randn(60, 6)
    structure = trace_structure(model, features[:1])
    pruner = FilterPruner(model, structure, build_tables(model, structure, [features], TableOptions()))
    allocation = Allocation("filter", {structure.groups[index].name: 5 for index in structure.prunable})
    pruned, plain = pruner.prune(allocation), pruner.prune(allocation)
    reconstruct(pruned, model, structure, pruner.kept(allocation), features)
    assert all(torch.equal(a, b) for a, b in zip(pruned.experts.parameters(), plain.experts.parameters(), strict=True))
    assert not torch.equal(pruned.head.weight, plain.head.weight)


def solved(moments, ridge, intercept):
    equations = moments.equations(ridge, intercept)
    return equations.solution.flatten(0, 1).float(), equations.constant(equations.solution).float()


@torch.no_grad()
def test_moments_solve_the_regression_of_a_grouped_layer():
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 6, 3, groups=2)
    truth = copy.deepcopy(layer)
    nn.init.normal_(truth.weight)
    nn.init.normal_(truth.bias)
    moments = Moments(layer)
    for _ in range(3):
        images = torch.randn(10, 4, 8, 8) + 5  # far from zero: the sums must not cancel
        target = truth(images).movedim(1, -1).flatten(0, -2)
        moments.add(input_rows(images, (6, 6), layer, None), target)
    weight, constant = solved(moments, 1e-9, intercept=True)
    torch.testing.assert_close(weight.reshape(truth.weight.shape), truth.weight, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(constant, truth.bias, rtol=1e-2, atol=5e-2)
    held, zero = solved(moments, 1e9, intercept=False)
    torch.testing.assert_close(held.reshape(layer.weight.shape), layer.weight, rtol=1e-3, atol=1e-3)
    assert not zero.any()


@torch.no_grad()
def test_few_rows_are_not_overfitted():
    generator = torch.Generator().manual_seed(0)
    layer = nn.Linear(50, 2)
    features, noise = torch.randn(500, 50, generator=generator), torch.randn(500, 2, generator=generator)
    target = layer(features) + noise
    moments = Moments(layer)
    moments.add(features[None, :60], target[:60])
    errors = {}
    for ridge in (1e-9, moments.scarcity):
        weight, constant = solved(moments, ridge, intercept=True)
        errors[ridge] = float((features[60:] @ weight.T + constant - target[60:]).square().mean())
    assert errors[moments.scarcity] < 0.6 * errors[1e-9]


@torch.no_grad()
@pytest.mark.parametrize("features", [1, 64, 300])
@pytest.mark.parametrize("level", [1e-4, 1.0, 1e4])
def test_a_layer_that_reads_constants_keeps_its_weights(features, level):
    torch.manual_seed(0)
    layer = nn.Linear(features, 4)
    constants = level * (0.5 + torch.rand(features))
    rows = constants * (1 + 1e-7 * torch.randn(500, features))  # constants, but for their rounding
    moments = Moments(layer)
    for part in rows.split(50):
        moments.add(part[None], layer(part))
    weight, constant = solved(moments, 1e-2, intercept=True)
    torch.testing.assert_close(weight, layer.weight, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(constants @ weight.T + constant, layer(constants), rtol=1e-4, atol=1e-4 * level)


class Borrowing(nn.Module):
    """Computes with the weights of a layer that it does not call, as Swin's attention does."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2, self.head = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 6, 1), nn.Linear(6, 4)

    def forward(self, x):
        x = functional.conv2d(functional.relu(self.conv1(x)), self.conv2.weight, self.conv2.bias)
        return self.head(functional.relu(x).mean((2, 3)))


@torch.no_grad()
def test_layers_that_are_never_called_stay_as_they_are():
    images, model = fresh_images(50), Borrowing().eval()
    structure = trace_structure(model, images[:1])
    pruned = copy.deepcopy(model)
    pruned.head.weight.mul_(0.5)
    reconstruct(pruned, model, structure, {0: torch.arange(8)}, images, ReconstructionOptions(ridge=1e-9))
    assert torch.equal(pruned.conv2.weight, model.conv2.weight)
    torch.testing.assert_close(pruned(images), model(images), rtol=1e-2, atol=1e-2)


class Windows(nn.Module):
    """Folds four patches of an image into the first axis."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(12, 32), nn.Linear(32, 12), nn.Linear(12, 3)

    def forward(self, x):
        patches = x.reshape(len(x) * 4, 4, 12)
        patches = patches + self.second(torch.relu(self.first(patches)))
        return self.head(patches.reshape(len(x), 16, 12).mean(1))


@torch.no_grad()
def test_layers_whose_first_axis_is_not_the_images_keep_the_refit_of_the_tables():
    images = torch.randn(600, 192, generator=torch.Generator().manual_seed(0))  # more than are run at once
    model = Windows().eval()
    structure = trace_structure(model, images[:1])
    pruner = FilterPruner(model, structure, build_tables(model, structure, [images], TableOptions()))
    allocation = Allocation("filter", {"first": 24})
    pruned, before = pruner.prune(allocation), pruner.prune(allocation)
    reconstruct(pruned, model, structure, pruner.kept(allocation), images)
    assert torch.equal(pruned.second.weight, before.second.weight)
    far, near = ((network(images) - model(images)).square().mean() for network in (before, pruned))
    assert near <= far


@torch.no_grad()
def test_a_branch_that_its_batch_norm_silences_is_left_alone(net):
    net.model.block1.bn2.weight.zero_()
    pruned, kept = pruned_of(net, 3, 4, 5)
    before = copy.deepcopy(pruned.block1.conv2.weight)
    reconstruct(pruned, net.model, net.structure, kept, fresh_images(100))
    assert torch.equal(pruned.block1.conv2.weight, before)
    assert all(value.isfinite().all() for value in pruned.state_dict().values())
