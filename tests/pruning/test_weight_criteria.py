"""Each criterion for single weights against an oracle of its own."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn
from torch.func import functional_call

from amc.data.tasks import task_type
from amc.pruning import WEIGHT_CRITERIA, Evidence, EvidenceOptions
from amc.pruning.regression.statistics import SamplingOptions
from amc.structure import LayerSpec, ModelStructure
from amc.tracing.trace import trace_structure
from amc.utils.options import create


def layer_of(name, weight):
    shape = tuple(weight.shape)
    size = (1, 1)
    return LayerSpec(name, "linear", f"{name}.weight", shape, shape[1], shape[0], size, size, size, 1, 0, 0, None, ())


def one_layer(weight):
    """A network of one linear layer."""
    model = nn.Sequential(nn.Linear(len(weight[0]), len(weight), bias=False)).eval()
    model[0].weight.data = torch.tensor(weight, dtype=torch.float32)
    return model, ModelStructure((layer_of("0", model[0].weight),), (), (), ())


def score(name, model, structure, images, labels=None, place=0, **options):
    evidence = Evidence(model, structure, [images], [] if labels is None else [labels], EvidenceOptions(**options))
    return create(WEIGHT_CRITERIA, name)(structure.layers[place], evidence)


def masked_gradients(case, images, labels):
    """By autograd: a factor on every weight, and the loss's gradient in it."""
    state = {name: value.detach() for name, value in case.model.state_dict().items()}
    mask = torch.ones_like(state["block1.conv2.weight"], requires_grad=True)
    state["block1.conv2.weight"] = state["block1.conv2.weight"] * mask
    nn.functional.cross_entropy(functional_call(case.model, state, images), labels).backward()
    return mask.grad


def place_of(case, name):
    return next(place for place, layer in enumerate(case.structure.layers) if layer.name == name)


def test_snip_is_the_gradient_in_the_connections(net):
    labels = torch.arange(64) % 4
    place = place_of(net, "block1.conv2")
    found = score("snip", net.model, net.structure, net.images, labels, place, minibatch=10)
    torch.testing.assert_close(found, masked_gradients(net, net.images, labels).abs(), rtol=1e-4, atol=1e-7)


def test_taylor_squares_each_minibatch(net):
    labels = torch.arange(64) % 4
    parts = zip(net.images.split(32), labels.split(32), strict=True)
    expected = torch.stack([masked_gradients(net, *part).square() for part in parts]).mean(0)
    found = score("taylor", net.model, net.structure, net.images, labels, place_of(net, "block1.conv2"), minibatch=32)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("at_once", [5, 24, 64])
def test_minibatches_are_as_large_whatever_runs_at_once(net, at_once):
    labels, place = torch.arange(64) % 4, place_of(net, "block1.conv2")
    options = EvidenceOptions(minibatch=32)
    evidence = Evidence(net.model, net.structure, net.images.split(at_once), labels.split(at_once), options)
    found = create(WEIGHT_CRITERIA, "taylor")(net.structure.layers[place], evidence)
    expected = score("taylor", net.model, net.structure, net.images, labels, place, minibatch=32)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-9)


def test_no_minibatch_is_smaller_than_the_others(net):
    labels, place = torch.arange(64) % 4, place_of(net, "block1.conv2")
    found = score("taylor", net.model, net.structure, net.images, labels, place, minibatch=60)
    expected = score("taylor", net.model, net.structure, net.images, labels, place, minibatch=32)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-9)


def test_wanda_of_four_weights():
    model, structure = one_layer([[1, -2, 0.5, 3]])
    images = torch.diag(torch.tensor([10.0, 1, 4, 1]))  # norms over the four images
    product = score("wanda:by_output=false", model, structure, images)
    assert (product * 2).tolist() == [pytest.approx([10, 2, 2, 3])]  # the root of the mean over four images is half
    assert score("wanda", model, structure, images).argsort().tolist()[0][:2] == [1, 2]


def test_wanda_keeps_the_same_share_of_every_output():
    model, structure = one_layer([[1, 2, 3, 4], [100, 200, 300, 400]])
    scores = score("wanda", model, structure, torch.ones(2, 4))
    assert (scores >= scores.flatten().sort().values[4]).sum(1).tolist() == [2, 2]
    uneven = score("wanda:by_output=false", model, structure, torch.ones(2, 4))
    assert (uneven >= uneven.flatten().sort().values[4]).sum(1).tolist() == [0, 4]


def test_wanda_takes_the_norm_of_the_input_channel(net):
    place, seen = place_of(net, "block1.conv2"), []
    product = score("wanda:by_output=false", net.model, net.structure, net.images, place=place)
    net.model.block1.conv2.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        net.model(net.images)
    norms = seen[0].double().square().mean((0, 2, 3)).sqrt()
    expected = net.model.block1.conv2.weight.detach().double().abs() * norms[None, :, None, None]
    torch.testing.assert_close(product, expected)


@pytest.mark.parametrize("groups", [2, 4])
def test_wanda_takes_the_channels_that_an_output_of_a_grouped_convolution_reads(groups):
    model = nn.Sequential(nn.Conv2d(4, 8, 3, groups=groups, bias=False)).eval()
    images = torch.randn(20, 4, 5, 5) * torch.tensor([1.0, 10, 0.1, 3])[:, None, None]
    found = score("wanda:by_output=false", model, trace_structure(model, images[:1]), images)
    norms = images.double().square().mean((0, 2, 3)).sqrt().reshape(groups, -1).repeat_interleave(8 // groups, 0)
    torch.testing.assert_close(found, model[0].weight.detach().double().abs() * norms[:, :, None, None])


def test_the_surgeon_takes_the_cheaper_of_two_weights():
    """Gram matrix (2, 1; 1, 2) and weights (1, 2): removal costs .75 and 3."""
    model, structure = one_layer([[1, 2]])
    images = torch.linalg.cholesky(torch.tensor([[2.0, 1], [1, 2]])).T * 2**0.5  # two rows
    scores = score("obs:ridge=1e-9", model, structure, images.repeat(500, 1))
    assert scores.argmin() == 0


def test_the_surgeon_removes_first_what_a_refit_makes_up_for():
    """By brute force: every weight is left out in turn, and the others of its output are fitted to the outputs."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(3, 5, generator=generator)
    model, structure = one_layer(weight.tolist())
    images = torch.randn(2000, 5, generator=generator) @ torch.randn(5, 5, generator=generator)
    target = images @ weight.T
    costs = {}
    for output, gone in itertools.product(range(3), range(5)):
        left = [place for place in range(5) if place != gone]
        fit = torch.linalg.lstsq(images[:, left], target[:, output : output + 1]).solution
        costs[output, gone] = float((images[:, left] @ fit - target[:, output : output + 1]).square().mean())
    scores = score("obs:ridge=1e-9", model, structure, images)
    assert divmod(int(scores.argmin()), 5) == min(costs, key=costs.get)


def test_the_surgeon_goes_by_the_diagonal_where_no_more_is_known():
    model, structure = one_layer([[1, -2, 0.5]])
    images = torch.tensor([[1.0, 2, 3], [3, 2, 1]])
    found = score("obs", model, structure, images, sampling=SamplingOptions(max_features=2))
    assert found.tolist() == [pytest.approx([1 * 5, 4 * 4, 0.25 * 5])]


def test_the_diagonal_counts_by_what_an_output_does_as_well():
    torch.manual_seed(0)
    model, images = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 4)), torch.randn(40, 3)
    structure = trace_structure(model, images[:1], verify="nothing")
    evidence = Evidence(model, structure, [images], (), EvidenceOptions(sampling=SamplingOptions(max_features=2)))
    found = create(WEIGHT_CRITERIA, "obs")(structure.layers[0], evidence)
    carried = model[0].weight.detach().double().square() * images.double().square().mean(0)
    torch.testing.assert_close(found, carried * evidence.importance(structure.layers[0])[:, None])


def test_gradients_are_those_of_the_tasks_own_loss():
    model, structure = one_layer([[1, -2, 0.5]])
    images = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(6.0)
    evidence = Evidence(model, structure, [images], [targets], task=task_type("regression", targets, loss="mse"))
    found = create(WEIGHT_CRITERIA, "snip")(structure.layers[0], evidence)
    error = images @ model[0].weight.detach()[0] - targets
    expected = (2 * error[:, None] * images).mean(0) * model[0].weight.detach()[0]
    torch.testing.assert_close(found[0], expected.abs())
