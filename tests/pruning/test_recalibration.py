"""Batch norms of a candidate, re-estimated on calibration images."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from amc.pruning import CandidateNetwork, CandidateScorer, FilterPruner, TableOptions, build_tables
from amc.pruning.recovery.recalibration import reestimate_batch_norms


def pruner_of(case):
    return FilterPruner(
        case.model, case.structure, build_tables(case.model, case.structure, [case.images], TableOptions())
    )


def unfolded(case):
    """The same case, but no layer knows its batch norm, so that all of them stand."""
    layers = tuple(replace(layer, batch_norm=None) for layer in case.structure.layers)
    return replace(case, structure=replace(case.structure, layers=layers))


@torch.no_grad()
def with_statistics_of(model, images):
    """PyTorch's own way: training mode, with averages that forget what was there before."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    model.train()
    model(images)
    return model.eval()


@pytest.mark.parametrize("folded", [True, False])
def test_a_recalibrated_candidate_has_the_statistics_of_the_calibration_images(net, folded):
    case = net if folded else unfolded(net)
    pruner, allocation = pruner_of(case), case.allocation(3, 4, 2)
    network = CandidateNetwork(pruner)
    network.load(allocation)
    network.recalibrate(case.images[:32])
    expected = with_statistics_of(pruner.prune(allocation), case.images[:32])
    with torch.no_grad():
        torch.testing.assert_close(network.run(case.images), expected(case.images), rtol=1e-4, atol=1e-4)
        cut = pruner.prune(allocation)(case.images)
    assert float((network.run(case.images) - cut).abs().max()) > 0.1


@pytest.mark.parametrize("folded", [True, False])
def test_the_next_candidate_knows_nothing_of_it(net, folded):
    case = net if folded else unfolded(net)
    pruner = pruner_of(case)
    network = CandidateNetwork(pruner)
    images = [network.prepare(case.images[:8])]
    network.load(case.allocation(3, 4, 2))
    network.recalibrate(case.images)
    for widths in ((8, 4, 2), (8, 10, 5)):  # the second is the dense network: nothing is cut at all
        allocation = case.allocation(*widths)
        with torch.no_grad():
            expected = pruner.prune(allocation)(case.images[:8])
        torch.testing.assert_close(network.logits(allocation, images), expected, rtol=1e-4, atol=1e-4)


def test_a_channel_that_its_batch_norm_silences_stays_silent(net):
    net.model.block1.bn1.weight.data[2] = 0.0
    network = CandidateNetwork(pruner_of(net))
    loaded = network.load(net.allocation(8, 5, 3))
    network.recalibrate(net.images)
    assert bool(network.run(net.images).isfinite().all())
    torch.testing.assert_close(loaded.block1.conv1.bias[2], net.model.block1.bn1.bias[2])


def test_the_scorer_recalibrates_every_candidate(net):
    pruner, targets, allocation = pruner_of(net), torch.zeros(64), net.allocation(3, 4, 2)
    scored = {
        name: CandidateScorer(
            CandidateNetwork(pruner), net.images, targets, lambda logits, *_: logits, calibration=images
        )
        for name, images in (("cut", None), ("recalibrated", net.images[:32]))
    }
    network = CandidateNetwork(pruner)
    network.load(allocation)
    torch.testing.assert_close(scored["cut"](allocation), network.run(net.images))
    network.recalibrate(net.images[:32])
    torch.testing.assert_close(scored["recalibrated"](allocation), network.run(net.images))
    stages = list(scored["recalibrated"].stages(allocation, [64]))
    torch.testing.assert_close(stages[-1][0], network.run(net.images))


@pytest.mark.parametrize("batch_size", [7, 64])
def test_the_pass_over_images_that_are_scored_anyway_scores_them(net, batch_size):
    pruner, targets, allocation = pruner_of(net), torch.zeros(64), net.allocation(3, 4, 2)

    def scorer(**options):
        measure = lambda logits, *_: logits  # noqa: E731
        return CandidateScorer(CandidateNetwork(pruner), net.images, targets, measure, batch_size=batch_size, **options)

    elsewhere, here = scorer(calibration=net.images[:32]), scorer(recalibrated=32)
    torch.testing.assert_close(here.reference, elsewhere.reference)
    torch.testing.assert_close(here(allocation), elsewhere(allocation), rtol=1e-3, atol=1e-3)  # biased variances
    sizes = [10, 32, 40, 64]
    stages = [stage[0] for stage in here.stages(allocation, sizes)]
    assert [len(stage) for stage in stages] == sizes
    for stage in stages:
        torch.testing.assert_close(stage, here(allocation)[: len(stage)])
    assert len(here.score(allocation, 20)) == 20


@pytest.mark.parametrize("recalibrated", [0, 20])
def test_a_scorer_shows_images_in_the_order_asked_for_and_all_of_them_as_they_are(net, recalibrated):
    network, targets, measure = CandidateNetwork(pruner_of(net)), torch.arange(64), lambda logits, *_: logits
    scorer = CandidateScorer(network, net.images, targets, measure, batch_size=7, recalibrated=recalibrated)
    allocation = net.allocation(3, 4, 2)
    later = recalibrated + torch.randperm(64 - recalibrated, generator=torch.Generator().manual_seed(0))
    order = torch.cat([torch.arange(recalibrated), later])
    whole = scorer(allocation)
    for logits, classes, _ in scorer.stages(allocation, [5, 30, 45, 64], order):
        numbers = torch.arange(64) if len(logits) == 64 else order[: len(logits)]
        assert torch.equal(classes, targets[numbers])
        torch.testing.assert_close(logits, whole[numbers])


def test_all_images_may_be_those_of_the_batch_norms(net):
    scorer = CandidateScorer(
        CandidateNetwork(pruner_of(net)), net.images, torch.zeros(64), lambda logits, *_: logits, recalibrated=100
    )
    assert len(scorer(net.allocation(3, 4, 2))) == 64


def test_statistics_of_a_network_in_double_precision_are_exact_to_it():
    torch.manual_seed(0)
    single = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4)).eval()
    images, double = torch.randn(20, 3, 6, 6), copy.deepcopy(single).double()
    reestimate_batch_norms(double, images.double())
    values = single.double()[0](images.double()).detach()
    torch.testing.assert_close(double[1].running_mean, values.mean((0, 2, 3)), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(double[1].running_var, values.var((0, 2, 3)), rtol=1e-12, atol=1e-12)
