"""Subclasses of layers and norms that do more than these: they are cut, and not taken for what they are not."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from amc.pruning import CandidateNetwork, FilterPruner, TableOptions, build_tables, reconstruct
from amc.pruning.batch_norm import is_affine
from amc.pruning.recovery.residual_sums import traced_sums
from amc.pruning.regression.patches import is_reader
from amc.structure import Allocation
from amc.tracing.trace import trace_structure


class NormAct(nn.BatchNorm2d):
    """A batch norm with an activation of its own, as in timm."""

    def __init__(self, channels, act):
        super().__init__(channels)
        self.act = act

    def forward(self, x):
        return self.act(super().forward(x))


class PaddedConv(nn.Conv2d):
    """A convolution that pads its input itself, as TensorFlow's do."""

    def forward(self, x):
        return super().forward(nn.functional.pad(x, (0, 1, 0, 1)))


class Residual(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.stem = PaddedConv(3, 8, 2)
        self.inner, self.first = nn.Conv2d(8, 10, 1, bias=False), NormAct(10, nn.ReLU())
        self.outer, self.last = nn.Conv2d(10, 8, 1, bias=False), NormAct(8, act)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.last(self.outer(self.first(self.inner(x))))
        return self.head(x.mean((2, 3)))


@pytest.fixture
def images():
    return torch.randn(16, 3, 6, 6, generator=torch.Generator().manual_seed(0))


def randomised(model):
    generator = torch.Generator().manual_seed(1)
    for norm in (model.first, model.last):
        for tensor in (norm.weight.data, norm.bias.data, norm.running_mean):
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.5)
    return model.eval()


@pytest.mark.parametrize("refit", [True, False])
def test_the_candidate_is_the_pruned_network(images, refit):
    model = randomised(Residual(nn.ReLU()))
    structure = trace_structure(model, images[:1])
    options = TableOptions(criterion="elimination" if refit else "l2", refit=refit)
    pruner = FilterPruner(model, structure, build_tables(model, structure, [images], options))
    allocation = Allocation("filter", {"inner": 6, "stem": 5})
    candidate = CandidateNetwork(pruner)
    with torch.no_grad():
        expected = pruner.prune(allocation).eval()(images)
        found = candidate.load(allocation)(candidate.prepare(images))
    torch.testing.assert_close(found, expected)


def test_a_norm_that_does_more_is_recalibrated_with_what_it_does(images):
    model = randomised(Residual(nn.ReLU()))
    structure = trace_structure(model, images[:1])
    pruner = FilterPruner(model, structure, build_tables(model, structure, [images], TableOptions("l2", refit=False)))
    allocation = Allocation("filter", {"inner": 6, "stem": 5})
    candidate, expected = CandidateNetwork(pruner), pruner.prune(allocation)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for norm in (expected.first, expected.last):
        norm.momentum = 1.0
    with torch.no_grad():
        expected.train()(images)
        candidate.load(allocation)
        candidate.recalibrate(images)
        torch.testing.assert_close(candidate.run(images), expected.eval()(images), rtol=1e-4, atol=1e-4)
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())


def test_what_is_a_plain_layer_or_norm():
    assert is_reader(nn.Conv2d(3, 4, 1))
    assert not is_reader(PaddedConv(3, 4, 1))
    assert not is_reader(nn.ConvTranspose2d(3, 4, 1))
    assert is_affine(nn.BatchNorm2d(3))
    assert is_affine(NormAct(3, nn.Identity()))
    assert not is_affine(NormAct(3, nn.ReLU()))
    assert not is_affine(nn.LayerNorm(3))
    assert not is_affine(nn.BatchNorm2d(3, track_running_stats=False))


def test_a_sum_behind_an_activation_cannot_be_set_right_by_the_layer_before(images):
    for act, found in ((nn.Identity(), ["outer"]), (nn.ReLU(), [])):
        model = randomised(Residual(act))
        structure = trace_structure(model, images[:1])
        assert list(traced_sums(structure, model)) == found


def test_a_norm_without_running_statistics_ends_no_sum_that_could_be_set_right(images):
    """What it does depends on the batch: no target of the layer ahead of it can be told from the sum."""
    model = randomised(Residual(nn.Identity()))
    model.last = nn.BatchNorm2d(8, track_running_stats=False).eval()
    structure = trace_structure(model, images[:1])
    assert traced_sums(structure, model) == {}
    pruner = FilterPruner(model, structure, build_tables(model, structure, [images]))
    allocation = Allocation("filter", {"inner": 6})
    pruned = pruner.prune(allocation)
    reconstruct(pruned, model, structure, pruner.kept(allocation), images)
    assert torch.isfinite(pruned(images)).all()


class KeptBiases(nn.Module):
    """Heads that are scaled by what is computed from a parameter once in evaluation mode and kept from then on."""

    def __init__(self):
        super().__init__()
        self.num_heads = 4
        self.into, self.out = nn.Linear(6, 12), nn.Linear(12, 3)
        self.scales = nn.Parameter(torch.linspace(0.5, 2.0, 4)[:, None])
        self.kept = None

    def train(self, mode=True):
        self.kept = None
        return super().train(mode)

    def forward(self, x):
        if self.kept is None or self.training:
            self.kept = self.scales.exp()
        x = self.into(x).view(len(x), self.num_heads, -1) * self.kept
        return self.out(x.flatten(1))


def test_what_modules_keep_of_their_weights_follows_every_candidate():
    torch.manual_seed(0)
    model, rows = KeptBiases().eval(), torch.randn(20, 6)
    model(rows)
    structure = trace_structure(model, rows[:1])
    pruner = FilterPruner(model, structure, build_tables(model, structure, [rows], TableOptions()))
    assert structure.groups[0].channels == 4
    candidate = CandidateNetwork(pruner)
    for heads in (4, 1, 3):
        allocation = Allocation("filter", {"into": heads})
        with torch.no_grad():
            expected = pruner.prune(allocation).eval()(rows)
        torch.testing.assert_close(candidate.logits(allocation, [candidate.prepare(rows)]), expected)


class OneChannel(nn.Module):
    """A stem that reads a single channel, with no norm right behind it to be folded into it."""

    def __init__(self):
        super().__init__()
        self.stem, self.second = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 6, 3, padding=1)
        self.norm, self.head = nn.BatchNorm2d(14), nn.Linear(14, 4)

    def forward(self, x):
        x = self.stem(x)
        return self.head(self.norm(torch.cat([x, self.second(x)], 1)).mean((2, 3)))


def test_a_candidate_has_the_same_layout_whatever_was_scored_before():
    model = OneChannel().eval()
    structure = trace_structure(model, torch.zeros(1, 1, 6, 6))
    pruner = FilterPruner(model, structure, build_tables(model, structure, [], TableOptions("l1", refit=False)))
    network = CandidateNetwork(pruner, device=torch.device("cpu"), dtype=torch.float32, channels_last=True)

    def strides():
        return {name: value.stride() for name, value in network._network.named_parameters()}

    untouched = strides()
    widths = {structure.groups[index].name: 3 for index in structure.prunable}
    for allocation in (Allocation("filter", widths), Allocation("filter", {})):
        network.load(allocation)
    assert strides() == untouched
