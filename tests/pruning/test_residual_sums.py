"""Sums that layers enter: those that the trace has seen are found again in other passes."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from amc.pruning import FilterPruner, ReconstructionOptions, TableOptions, build_tables, reconstruct
from amc.pruning.recovery.residual_sums import confirm_residual_sums, traced_sums
from amc.structure import Allocation
from amc.structure.operator_watch import OperatorWatch
from amc.tracing.trace import trace_structure


def fresh_images(count):
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(9))


def test_sums_are_found_where_a_layer_alone_can_set_them_right(net):
    sums = traced_sums(trace_structure(net.model, net.images[:1]), net.model)
    assert sums == {found.layer: found for found in net.structure.sums}
    assert sorted(sums) == ["block1.conv2", "block2.conv2"]
    assert [found.addition.place for found in sums.values()] == [0, 1]
    assert {found.outlet for found in sums.values()} == {"block1.bn2", "block2.bn2"}


class Downsampling(nn.Module):
    """The shortcut has a convolution of its own, which runs last; the sum is made in place."""

    def __init__(self, scale=1):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.shortcut = nn.Conv2d(3, 3, 1)
        self.scale = scale

    def forward(self, x):
        return self.conv(x).add_(self.shortcut(x), alpha=self.scale)


@pytest.mark.parametrize(("scale", "found"), [(1, ["shortcut"]), (3, [])])
def test_the_layer_that_runs_last_sets_the_sum_right_unless_it_is_scaled(net, scale, found):
    model = Downsampling(scale).eval()
    assert list(traced_sums(trace_structure(model, net.images[:1]), model)) == found


class Building(nn.Module):
    """Makes tensors in `forward`: a mean that it subtracts, and positions that it adds."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.conv1, self.conv2 = nn.Conv2d(6, 9, 3, padding=1), nn.Conv2d(9, 6, 3, padding=1)
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        x = functional.relu(self.stem(x - torch.full((1, 1, 1, 1), 0.3)))
        x = x + torch.arange(x.shape[-1]) / x.shape[-1]
        x = x + self.conv2(functional.relu(self.conv1(x)))
        return self.head(functional.relu(x).mean((2, 3)))


def building(images, width):
    torch.manual_seed(0)
    model = Building().eval()
    structure = trace_structure(model, images[:1])
    pruner = FilterPruner(model, structure, build_tables(model, structure, [images], TableOptions()))
    allocation = Allocation("filter", {"conv1": width})
    return model, structure, pruner.prune(allocation), pruner.kept(allocation)


@torch.no_grad()
def test_sums_are_found_again_where_the_network_builds_tensors():
    images = fresh_images(300)
    model, structure, pruned, kept = building(images, 5)
    pruned.stem.bias.add_(0.1)  # only the sum's target makes up for what the shortcut carries
    before = (pruned(images) - model(images)).square().mean()
    reconstruct(pruned, model, structure, kept, images, ReconstructionOptions(ridge=1e-9))
    after = (pruned(images) - model(images)).square().mean()
    assert float(after) < 0.1 * float(before)


class Counting(Building):
    """Runs one addition more with every call."""

    calls = 0

    def forward(self, x):
        self.calls += 1
        for _ in range(self.calls):
            x = x + torch.zeros(())
        return super().forward(x)


@torch.no_grad()
def test_a_sum_that_is_not_found_again_is_left_out():
    images = fresh_images(20)
    model, structure, pruned, kept = building(images, 5)
    sums = traced_sums(structure, model)
    assert list(sums) == list(confirm_residual_sums(sums, pruned, images[:2])) == ["conv2"]
    for network in (model, pruned):
        network.__class__ = Counting
    assert confirm_residual_sums(sums, model, images[:2]) == {}
    reconstruct(pruned, model, structure, kept, images)  # each layer is refit to its own output


class Reshaping(Building):
    """Reshapes what it has permuted: with one channel left, that needs no copy."""

    def forward(self, x):
        x = functional.relu(self.stem(x))
        y = self.conv1(x).transpose(1, 3).flatten(2).unflatten(2, (*x.shape[2:3], -1)).transpose(1, 3)
        return self.head(functional.relu(x + self.conv2(y)).mean((2, 3)))


@torch.no_grad()
def test_sums_are_found_whatever_else_the_pruned_network_runs(monkeypatch):
    images = fresh_images(20)
    monkeypatch.setitem(globals(), "Building", Reshaping)
    model, structure, pruned, _ = building(images, 1)
    kinds = []
    for network in (model, pruned):
        kinds.append([])
        with OperatorWatch(lambda step, args, output: kinds[-1].append(step.kind)).watching():
            network(images)
    assert len(kinds[0]) != len(kinds[1])
    sums = traced_sums(structure, model)
    assert list(confirm_residual_sums(sums, pruned, images[:2])) == ["conv2"]


class Batchwise(Building):
    """Runs more additions on many images."""

    def forward(self, x):
        for _ in range(len(x) // 10):
            x = x + torch.zeros(())
        return super().forward(x)


@torch.no_grad()
def test_a_sum_that_is_not_there_on_more_images_leaves_its_layer_as_it_is():
    images = fresh_images(20)
    model, structure, pruned, kept = building(images, 5)
    for network in (model, pruned):
        network.__class__ = Batchwise
    before = pruned.conv2.weight.clone()
    reconstruct(pruned, model, structure, kept, images)
    assert torch.equal(pruned.conv2.weight, before)


class Fused(nn.Module):
    """Adds two branches, behind a function that runs as one operator on some devices and as many on others."""

    def __init__(self, kind):
        super().__init__()
        self.kind, self.stem = kind, nn.Linear(4, 6)
        self.lstm, self.inner, self.outer = nn.LSTM(6, 6, batch_first=True), nn.Linear(6, 9), nn.Linear(9, 6)
        self.head = nn.Linear(6, 2)

    def forward(self, x):
        x = functional.relu(self.stem(x))
        x = self.lstm(x)[0] if self.kind == "lstm" else functional.scaled_dot_product_attention(x, x, x, is_causal=True)
        x = functional.relu(x)
        return self.head(x + self.outer(functional.relu(self.inner(x))))


@pytest.mark.parametrize("kind", ["lstm", "attention"])
def test_sums_are_found_again_behind_fused_functions(kind):
    torch.manual_seed(0)
    model, inputs = Fused(kind).eval(), torch.randn(2, 5, 4)
    sums = traced_sums(trace_structure(model, inputs[:1]), model)
    assert list(sums) == list(confirm_residual_sums(sums, model, inputs)) == ["outer"]


class Broadcasting(Building):
    """Adds positions to the output of a layer: of one image they have the same shape."""

    def forward(self, x):
        positions = torch.arange(6 * 64).reshape(1, 6, 8, 8) / 384
        return self.head(functional.relu(self.stem(x) + positions).mean((2, 3)))


def test_what_is_broadcast_over_the_images_is_no_summand():
    model, images = Broadcasting().eval(), fresh_images(2)
    sums = traced_sums(trace_structure(model, images[:1], verify="nothing"), model)
    assert list(sums) == ["stem"]
    assert confirm_residual_sums(sums, model, images) == {}
