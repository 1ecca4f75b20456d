"""Outputs that a rectifier makes zero are left free in the sequential refit."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from amc.pruning import ReconstructionOptions, reconstruct
from amc.pruning.recovery.layer_refit import Floor
from amc.pruning.recovery.reconstruction import Reconstruction
from amc.pruning.regression.least_squares import Moments
from amc.pruning.regression.restricted import Restriction
from amc.tracing.trace import trace_structure


class Ending(nn.Module):
    """A convolution with a batch norm, what follows them, and a readout."""

    def __init__(self, follow, skip=False):
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.last = nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Linear(6, 4)
        self.follow, self.skip = follow, skip

    def forward(self, x):
        x = self.follow(self.norm(self.first(x)))
        out = self.last(x)
        return self.head(torch.relu(out + x if self.skip else out).mean((2, 3)))


def fresh(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.4, generator=generator)
        model.norm.weight.abs_().add_(0.2)
        model.norm.running_mean.normal_(std=0.2, generator=generator)
        model.norm.running_var.uniform_(0.5, 2.0, generator=generator)
    return model.eval()


def images_of(count=40, seed=1):
    return torch.randn(count, 3, 6, 6, generator=torch.Generator().manual_seed(seed))


def planned(model, layers=("first", "last")):
    structure = trace_structure(model, images_of(1))
    return Reconstruction.plan(model, model, structure, {}, images_of(), sparse=frozenset(layers))


@pytest.mark.parametrize(
    ("follow", "found"),
    [
        (torch.relu, True),
        (nn.ReLU(inplace=True), True),
        (nn.ReLU6(), True),
        (nn.Hardtanh(0.0, 4.0), True),
        (lambda x: x.clamp(min=0), True),
        (nn.Hardtanh(), False),
        (lambda x: x.clamp(min=-1), False),
        (nn.LeakyReLU(), False),
        (nn.GELU(), False),
        (lambda x: torch.relu(x) + x, False),
        (lambda x: torch.relu(x) + 0.1 * x.mean(), False),
        (lambda x: torch.relu(x.contiguous(memory_format=torch.channels_last)), False),
    ],
)
def test_only_what_rectifiers_alone_read_is_free(follow, found):
    assert ("first" in planned(fresh(Ending(follow))).rectified) is found


@pytest.mark.parametrize("skip", [False, True])
def test_layers_without_a_batch_norm_and_sums_are_found_too_and_outputs_never(skip):
    plan = planned(fresh(Ending(torch.relu, skip=skip)), ("first", "last", "head"))
    assert plan.rectified == {"first", "last"}
    assert (plan.jobs["last"].residual is not None) is skip


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_hidden_outputs_stay_where_they_are_and_others_are_drawn_to_the_level(sign):
    level = torch.tensor([0.0, 1.0])
    dense, now = (
        torch.tensor([[-2.0, 3.0], [-2.0, 0.0], [4.0, -3.0]]),
        torch.tensor([[-5.0, 9.0], [7.0, 0.5], [-1.0, 6.0]]),
    )
    floor = Floor(sign * level, torch.full((2,), sign))
    found = floor.targets(slice(0, 3), sign * dense, sign * now)
    # A twentieth of the way is still toward the dense output.
    wanted = torch.tensor([[0.95 * -5 + 0.05 * -2, 3.0], [0.05 * -2, 0.95 * 0.5], [4.0, 0.95 * 1 + 0.05 * -3]])
    torch.testing.assert_close(found, sign * wanted)
    untouched = Floor(level, torch.zeros(2)).targets(slice(0, 3), dense, now)
    assert torch.equal(untouched, dense)


def test_a_level_for_each_row_is_that_of_the_row():
    dense, now = torch.full((3, 1), -1.0), torch.full((3, 1), 5.0)
    floor = Floor(torch.tensor([[-2.0], [0.0], [3.0], [9.0]]), torch.ones(1))
    torch.testing.assert_close(floor.targets(slice(1, 4), dense, now), torch.tensor([[-0.05], [2.8], [4.7]]))


@pytest.mark.parametrize("groups", [1, 2])
def test_other_targets_for_the_same_rows_give_the_equations_of_both_from_the_start(groups):
    module = nn.Conv2d(4, 6, 3, groups=groups)
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(groups, 50, 4 // groups * 9, generator=generator)
    first, other = (torch.randn(50, 6, generator=generator) for _ in range(2))
    changed, whole = Moments(module), Moments(module)
    for part in (slice(0, 30), slice(30, 50)):
        changed.add(features[:, part], first[part])
        whole.add(features[:, part], other[part])
    again = changed.without_targets()
    for part in (slice(0, 30), slice(30, 50)):
        again.add_target(again.shifted(features[:, part]), other[part])
    for intercept in (True, False):
        found, wanted = (one.equations(1e-3, intercept) for one in (again, whole))
        torch.testing.assert_close(found.solution, wanted.solution, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            found.constant(found.solution), wanted.constant(wanted.solution), rtol=1e-4, atol=1e-5
        )


@torch.no_grad()
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("skip", [False, True])
def test_what_is_seen_behind_the_rectifier_comes_closer(seed, skip):
    dense = fresh(Ending(nn.ReLU(), skip=skip), seed)
    dense.norm.weight[0].neg_()
    dense.norm.bias.fill_(-1.0)  # most outputs are hidden
    structure = trace_structure(dense, images_of(1))
    pruned = copy.deepcopy(dense)
    for layer in (pruned.first, pruned.last):  # a third of the weights of every output stays
        rank = layer.weight.abs().flatten(1).argsort(1, descending=True).argsort(1).reshape(layer.weight.shape)
        layer.weight.mul_(rank < layer.weight[0].numel() // 3)
    masks = {name: getattr(pruned, name).weight != 0 for name in ("first", "last")}
    unseen, errors = images_of(100, seed=7), []

    def solver(name, equations, importance):
        best = equations.solution
        return best if name == "head" else Restriction(equations.gram, masks[name].reshape(best.shape)).solve(best)

    for passes in (0, 8):
        network = copy.deepcopy(pruned)
        options = ReconstructionOptions(rectified=passes)
        reconstruct(network, dense, structure, {}, images_of(200), options, sparse=masks, solver=solver)
        assert all(not getattr(network, name).weight[~mask].any() for name, mask in masks.items())
        seen = [functional.relu(model.norm(model.first(unseen))) for model in (network, dense)]
        errors.append(float((seen[0] - seen[1]).square().mean()))
    assert errors[1] < 0.995 * errors[0]


@torch.no_grad()
def test_a_layer_that_has_lost_what_only_the_hidden_outputs_need_is_right_where_it_is_seen():
    dense = nn.Sequential(nn.Linear(2, 1), nn.ReLU(), nn.Linear(1, 1)).eval()
    dense[0].weight.copy_(torch.ones(1, 2))
    dense[0].bias.zero_()
    generator = torch.Generator().manual_seed(0)
    read = torch.randn(2000, 1, generator=generator)
    lost = torch.where(read < 0, -5 * torch.rand(2000, 1, generator=generator), 0.0)  # zero wherever the output is seen
    images, mask = torch.cat([read, lost], 1), torch.tensor([[[True, False]]])
    structure = trace_structure(dense, images[:1])

    def solver(name, equations, importance):
        return Restriction(equations.gram, mask).solve(equations.solution) if name == "0" else equations.solution

    errors = []
    for passes in (0, 5):
        pruned, options = copy.deepcopy(dense), ReconstructionOptions(ridge=1e-9, rectified=passes)
        reconstruct(pruned, dense, structure, {}, images, options, sparse={"0": mask}, solver=solver)
        assert pruned[0].weight[0, 1] == 0
        errors.append(float((pruned[1](pruned[0](images)) - read.clamp(min=0)).square().mean()))
    assert errors[1] < 0.6 * errors[0]


@torch.no_grad()
@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_networks_in_other_number_formats_are_refit_to_what_single_precision_gives(dtype, skip):
    networks = []
    for kind in (torch.float32, dtype):
        dense = fresh(Ending(nn.ReLU(), skip=skip)).to(torch.bfloat16).to(kind)
        structure = trace_structure(dense, images_of(1).to(kind))
        pruned = copy.deepcopy(dense)
        pruned.first.weight[:, 0] = 0.0
        images = images_of(60).to(torch.bfloat16).to(kind)
        reconstruct(pruned, dense, structure, {}, images, sparse={"first"})
        networks.append(pruned)
    for wanted, found in zip(networks[0].parameters(), networks[1].parameters(), strict=True):
        assert found.dtype == dtype
        error = float((found.float() - wanted).square().mean() / wanted.square().mean())
        assert error < (1e-2 if dtype is torch.bfloat16 else 1e-6)
