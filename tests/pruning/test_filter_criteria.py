"""Each criterion for channels against an oracle of its own: worked numbers, brute force, autograd, scikit-learn."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import Lasso
from torch import nn
from torch.func import functional_call

from amc.errors import ConfigurationError
from amc.pruning import FILTER_CRITERIA, Evidence, EvidenceOptions, PruningConfig
from amc.pruning.criteria.regression import contributions, lasso_factors, lasso_scores, thinet_order
from amc.structure import ChannelGroup, LayerSpec, ModelStructure, TensorCut
from amc.utils.options import create


def single(channels):
    return tuple((c,) for c in range(channels))


class Chain(nn.Module):
    """One layer writes the channels, one reads them."""

    def __init__(self, write, read, activation=torch.relu):
        super().__init__()
        self.write, self.read, self.activation = write, read, activation

    def forward(self, x):
        return self.read(self.activation(self.write(x)))


def linear(weight):
    module = nn.Linear(len(weight[0]), len(weight), bias=False)
    module.weight.data = torch.tensor(weight, dtype=torch.float32)
    return module


def layer_of(name, weight):
    shape = (len(weight), len(weight[0]))
    size = (1, 1)
    return LayerSpec(name, "linear", f"{name}.weight", shape, shape[1], shape[0], size, size, size, 1, 0, 0, None, ())


def chain_of(write, read, activation=torch.relu):
    model = Chain(linear(write), linear(read), activation).eval()
    channels = len(write)
    cuts = (
        TensorCut("write.weight", 0, single(channels), "write"),
        TensorCut("read.weight", 1, single(channels), "read"),
    )
    group = ChannelGroup("write", channels, cuts, ("write",), ("read",))
    return model, ModelStructure((layer_of("write", write), layer_of("read", read)), (group,), (), ())


def score(name, model, structure, images=None, labels=None, minibatch=50, place=0):
    batches, targets = ([] if given is None else [given] for given in (images, labels))
    evidence = Evidence(model, structure, batches, targets, EvidenceOptions(minibatch=minibatch))
    return create(FILTER_CRITERIA, name)(structure.groups[place], evidence)


def labels_of(case):
    return torch.arange(len(case.images)) % case.model(case.images).shape[1]


@pytest.mark.parametrize(("name", "expected"), [("l1", [3, 1.5, 3]), ("l2", [5**0.5, 0.75**0.5, 3])], ids=["l1", "l2"])
def test_norms_of_three_filters(name, expected):
    model, structure = chain_of([[1, -2, 0], [0.5, 0.5, 0.5], [3, 0, 0]], [[1, 1, 1]])
    assert score(name, model, structure).tolist() == pytest.approx(expected)


def test_the_filter_nearest_the_geometric_median_goes_first():
    model, structure = chain_of([[0], [1], [3], [7], [10]], [[1] * 5])
    scores = score("fpgm", model, structure)
    assert scores.tolist() == pytest.approx([21, 18, 16, 20, 29])
    assert score("l1", model, structure).argmin() != scores.argmin() == 2


def test_distances_are_those_of_whole_filters(net):
    rows = net.model.block2.conv1.weight.detach().flatten(1).double()
    brute = [sum(float((one - other).norm()) for other in rows) for one in rows]
    assert score("fpgm", net.model, net.structure, place=1).tolist() == pytest.approx(brute)


def test_scales_of_batch_norms_are_taken_without_sign(grouped):
    with torch.no_grad():
        grouped.model.bn1.weight.copy_(torch.tensor([0.5, -0.1, 0.3, 0.2, 0.5, -0.7, 0.0, 0.1]))
    expected = [1.0, 0.8, 0.3, 0.3]  # channel c is written by the filters c and c + 4
    assert score("bn_scale", grouped.model, grouped.structure).tolist() == pytest.approx(expected)


def test_a_network_without_batch_norms_is_told_so():
    model, structure = chain_of([[1], [2]], [[1, 1]])
    with pytest.raises(ConfigurationError, match=r"'bn_scale' needs batch norms, but none scales .* 'write'; choose"):
        score("bn_scale", model, structure)


def gate_gradients(case, group, point, minibatch):
    """By autograd: gates multiply what the module `point` puts out; the loss's gradient in them, by minibatch."""
    labels, found = labels_of(case), []
    channels = case.model.get_submodule(point).weight.shape[0]
    for images, targets in zip(case.images.split(minibatch), labels.split(minibatch), strict=True):
        gates = torch.ones(channels, requires_grad=True)
        hook = case.model.get_submodule(point).register_forward_hook(
            lambda module, inputs, output, gates=gates: output * gates[:, None, None]
        )
        nn.functional.cross_entropy(case.model(images), targets).backward()
        hook.remove()
        cut = next(cut for cut in group.cuts if cut.tensor == f"{point}.weight")
        found.append(gates.grad[torch.tensor(cut.positions)].sum(1))
    return torch.stack(found).double()


@pytest.mark.parametrize("place", [0, 1])
def test_taylor_is_the_squared_gradient_of_a_gate_behind_the_batch_norm(net, place):
    group = net.structure.groups[place]
    gates = gate_gradients(net, group, f"block{place + 1}.bn1", 16)
    given = {"images": net.images, "labels": labels_of(net), "minibatch": 16, "place": place}
    torch.testing.assert_close(score("taylor", net.model, net.structure, **given), gates.square().mean(0))
    torch.testing.assert_close(
        score("taylor:absolute=true", net.model, net.structure, **given), gates.abs().mean(0), atol=1e-7, rtol=1e-4
    )
    assert not torch.allclose(gates.square().mean(0), gates.mean(0).square(), rtol=0.1)


def test_one_gate_closes_a_channel_of_both_halves(grouped):
    gates = gate_gradients(grouped, grouped.structure.groups[0], "bn1", 64)
    found = score("taylor", grouped.model, grouped.structure, grouped.images, labels_of(grouped), minibatch=64)
    torch.testing.assert_close(found, gates[0].square())


def test_snip_adds_the_sensitivities_of_all_that_goes(grouped):
    """By autograd: a factor on every parameter, and the loss's gradient in it."""
    parameters = {name: value.detach() for name, value in grouped.model.named_parameters()}
    masks = {name: torch.ones_like(value, requires_grad=True) for name, value in parameters.items()}
    buffers = dict(grouped.model.named_buffers())
    masked = {name: parameters[name] * masks[name] for name in parameters}
    output = functional_call(grouped.model, {**masked, **buffers}, grouped.images)
    nn.functional.cross_entropy(output, labels_of(grouped)).backward()
    by_filter = masks["conv1.weight"].grad.abs().flatten(1).sum(1)
    by_filter += masks["bn1.weight"].grad.abs() + masks["bn1.bias"].grad.abs()
    expected = by_filter[:4] + by_filter[4:] + masks["conv2.weight"].grad.abs().sum((0, 2, 3))
    found = score("snip", grouped.model, grouped.structure, grouped.images, labels_of(grouped), minibatch=10)
    torch.testing.assert_close(found.float(), expected)


def test_share_of_zeros_of_two_channels():
    model, structure = chain_of([[1, 0], [0, 1]], [[1, 1]])
    images = torch.tensor([[0.0, -1], [-2, 3], [1, 0], [2, 0]])  # read as 0, 0, 1, 2 and 0, 3, 0, 0: 5 of 8 are zero
    scores = score("apoz", model, structure, images)
    assert scores.tolist() == [0.5, 0.25]
    assert 1 - scores.mean() == 0.625


def test_zeros_are_counted_over_batches_maps_and_readers(net):
    batches = [net.images[:40], net.images[40:]]
    evidence = Evidence(net.model, net.structure, batches)
    found = create(FILTER_CRITERIA, "apoz")(net.structure.groups[0], evidence)
    seen = []
    net.model.block1.conv2.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        net.model(net.images)
    torch.testing.assert_close(found.float(), (seen[0] != 0).float().mean((0, 2, 3)))


def test_activations_without_zeros_are_told():
    model, structure = chain_of([[1], [2]], [[1, 1]], activation=torch.sigmoid)
    with pytest.raises(ConfigurationError, match="'apoz' counts zero activations, but those of 'write' hold none"):
        score("apoz", model, structure, torch.randn(8, 1, generator=torch.Generator().manual_seed(0)))


def test_thinet_is_greedy():
    """Three channels at two positions: the best pair to remove is {1, 2}, but the cheapest single one is 0."""
    columns = torch.tensor([[1.0, 1.0], [2.0, -2.0], [-2.0, 1.9]], dtype=torch.float64)
    moments = columns @ columns.T
    assert moments.diagonal().tolist() == pytest.approx([2, 8, 7.61])
    assert thinet_order(moments).tolist()[:2] == [0, 2]
    pairs = {pair: float(columns[list(pair)].sum(0).square().sum()) for pair in itertools.combinations(range(3), 2)}
    assert min(pairs, key=pairs.get) == (1, 2)
    assert pairs[0, 2] == pytest.approx(9.41)


@given(rows=st.lists(st.lists(st.integers(-3, 3), min_size=3, max_size=3), min_size=1, max_size=5))
def test_thinet_always_takes_the_cheapest_next(rows):
    columns = torch.tensor(rows, dtype=torch.float64)
    order = thinet_order(columns @ columns.T).tolist()
    assert sorted(order) == list(range(len(rows)))
    for step, channel in enumerate(order):
        gone = columns[order[:step]].sum(0)
        costs = [float((gone + columns[other]).square().sum()) for other in order[step:]]
        assert float((gone + columns[channel]).square().sum()) == pytest.approx(min(costs))


def contributed(case, group, reader):
    """What each channel contributes to a reader's outputs, one column a channel, by running the layer on it alone."""
    seen, module = [], case.model.get_submodule(reader)
    hook = module.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        case.model(case.images)
        hook.remove()
        cut = next(cut for cut in group.cuts if cut.role == "read")
        columns = []
        for positions in cut.positions:
            alone = torch.zeros_like(seen[0])
            for half in range(seen[0].shape[1] // module.weight.shape[1]):
                places = [half * module.weight.shape[1] + position for position in positions]
                alone[:, places] = seen[0][:, places]
            bias = 0 if module.bias is None else module.bias.reshape(-1, *[1] * (module(alone).dim() - 2))
            columns.append((module(alone) - bias).movedim(1, -1).flatten())
    return torch.stack(columns, 1).double(), seen[0]


@pytest.mark.parametrize(
    ("fixture", "place", "reader"), [("net", 1, "block2.conv2"), ("net", 2, "head"), ("grouped", 0, "conv2")]
)
def test_contributions_are_those_of_the_layer_run_on_one_channel(request, fixture, place, reader):
    case = request.getfixturevalue(fixture)
    group = case.structure.groups[place]
    columns, _ = contributed(case, group, reader)
    rows = len(columns) // case.model.get_submodule(reader).weight.shape[0]
    found = contributions(group, Evidence(case.model, case.structure, [case.images]))
    torch.testing.assert_close(found, columns.T @ columns / rows, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("penalty", "factors"), [(0.1, [0.975, 0.6]), (0.25, [0.9375, 0.0])])
def test_lasso_of_two_uncorrelated_channels(penalty, factors):
    """z1 = 2(1, -1, 1, -1), z2 = .5(1, 1, -1, -1), y = z1 + z2: each factor shrinks by the penalty over its energy."""
    columns = torch.tensor([[2.0, -2, 2, -2], [0.5, 0.5, -0.5, -0.5]], dtype=torch.float64)
    found = lasso_factors(columns @ columns.T / 4, np.array([penalty]))
    assert found[:, 0].tolist() == pytest.approx(factors, abs=1e-6)


def test_lasso_agrees_with_scikit_learn_on_the_layers_own_outputs(net):
    group = net.structure.groups[1]
    columns, _ = contributed(net, group, "block2.conv2")
    columns = columns.numpy()
    moments = contributions(group, Evidence(net.model, net.structure, [net.images]))
    scale = len(columns) / (len(columns) // 6)  # scikit-learn averages over outputs as well as rows
    penalties = float(moments.sum(1).max()) * np.array([0.5, 0.2, 0.05])
    found = lasso_factors(moments, penalties)
    for place, penalty in enumerate(penalties):
        model = Lasso(penalty / scale, fit_intercept=False, tol=1e-8, max_iter=100_000)
        expected = model.fit(columns, columns.sum(1)).coef_
        assert found[:, place] == pytest.approx(expected, abs=2e-3)
        assert (expected == 0).any() or place > 0


def test_channels_stay_by_the_penalty_at_which_they_enter(net):
    scores = score("lasso", net.model, net.structure, net.images, place=1)
    moments = contributions(net.structure.groups[1], Evidence(net.model, net.structure, [net.images]))
    top = float(moments.sum(1).abs().max())
    penalties = top * np.array([0.9, 0.7, 0.5, 0.3, 0.1])
    supports = lasso_factors(moments, penalties) != 0
    assert 0 < supports[:, 0].sum() < supports[:, -1].sum()
    for place, penalty in enumerate(penalties):  # whoever has a factor at a penalty has entered at a larger one
        assert supports[:, : place + 1].any(1).tolist() == (scores > penalty).tolist()
    assert scores.max() == pytest.approx(top, rel=0.06)


def test_of_channels_that_enter_the_path_together_the_larger_factor_stays():
    """Uncorrelated channels enter at their energy; these three lie between two penalties of the path."""
    scores = lasso_scores(torch.diag(torch.tensor([3.97, 4.0, 0.5, 3.98], dtype=torch.float64)))
    assert scores.argsort().tolist() == [2, 0, 3, 1]
    assert scores.tolist() == pytest.approx([3.97, 4.0, 0.5, 3.98], rel=0.05)


def test_lasso_of_channels_that_contribute_nothing():
    model, structure = chain_of([[1], [2]], [[0, 0]])
    assert score("lasso", model, structure, torch.ones(4, 1)).tolist() == [0, 0]


def test_a_channel_that_repeats_another_goes_first_by_elimination():
    """What another channel can stand in for costs nothing, however large it is."""
    write = [[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0], [5.0, 0, 0]]
    model, structure = chain_of(write, [[1.0, 0.2, 0.3, 1.0], [0.5, 1.0, 1.0, 1.0]])
    images = torch.rand(400, 3, generator=torch.Generator().manual_seed(0))
    scores = score("elimination", model, structure, images)
    assert int(scores.argmin()) in (0, 3)
    assert int(score("l2", model, structure).argmax()) == 3


def test_options_are_checked_when_the_criterion_is_chosen():
    with pytest.raises(ConfigurationError, match="criterion 'taylor' has no option 'square'; valid names"):
        PruningConfig(criterion="taylor:square=1")
    with pytest.raises(ConfigurationError, match="obs: ridge must be above 0"):
        PruningConfig(family="weight", criterion="obs:ridge=0")


@pytest.mark.parametrize("name", ["l1", "l2", "fpgm"])
def test_channels_that_no_filter_writes_score_alike(name):
    """What writes them may be a vector, such as a learnt offset."""
    model, structure = chain_of([[1], [2]], [[1, 1]])
    readers = tuple(cut for cut in structure.groups[0].cuts if cut.role == "read")
    group = ChannelGroup("offset", 2, readers, (), ("read",))
    assert score(name, model, ModelStructure(structure.layers, (group,), (), ())).tolist() == [0, 0]
