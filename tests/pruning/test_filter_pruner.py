from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from amc.errors import ConfigurationError
from amc.pruning import CandidateNetwork, CandidateScorer, FilterPruner, TableOptions, build_tables
from amc.pruning.prepared_images import PreparedImages, images_at_once
from amc.structure import Allocation


def pruner_of(case, **options):
    table = build_tables(case.model, case.structure, torch.split(case.images, 32), TableOptions(**options))
    return FilterPruner(case.model, case.structure, table)


def smallest(case):
    return case.allocation(*(1 for _ in case.structure.groups))


def middle(case):
    return case.allocation(*(group.channels // 2 for group in case.structure.groups))


@torch.no_grad()
def test_without_refit_the_pruned_network_equals_the_dense_one_with_channels_silenced(net):
    pruner = pruner_of(net, criterion="l1", refit=False)
    pruned = pruner.prune(net.allocation(3, 10, 2))
    masked = copy.deepcopy(net.model)
    for index, keep in pruner.kept(net.allocation(3, 10, 2)).items():
        reader = masked.block1.conv2 if index == 0 else masked.head
        gone = torch.tensor([c for c in range(net.structure.groups[index].channels) if c not in keep.tolist()])
        if index == 0:
            reader.weight[:, gone] = 0
        else:
            reader.weight.view(4, 5, 4)[:, gone] = 0
    torch.testing.assert_close(pruned(net.images), masked(net.images), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_pruning_is_physical_and_leaves_the_dense_network_alone(case):
    before = {name: tensor.clone() for name, tensor in case.model.state_dict().items()}
    pruned = pruner_of(case).prune(smallest(case))
    assert sum(p.numel() for p in pruned.parameters()) < sum(p.numel() for p in case.model.parameters())
    assert bool(pruned(case.images).isfinite().all())
    for name, tensor in case.model.state_dict().items():
        assert torch.equal(tensor, before[name])


@torch.no_grad()
def test_dense_allocation_changes_nothing(case):
    dense = case.allocation(*case.structure.dense_widths)
    torch.testing.assert_close(pruner_of(case).prune(dense)(case.images), case.model(case.images))


@torch.no_grad()
def test_refit_brings_the_output_closer_than_slicing(case):
    target = case.model(case.images)
    errors = [
        float(
            (pruner_of(case, criterion=criterion, refit=refit).prune(middle(case))(case.images) - target)
            .square()
            .mean()
        )
        for criterion, refit in (("l1", False), ("l1", True), ("elimination", True))
    ]
    assert errors[1] < 0.7 * errors[0]
    assert errors[2] < 0.7 * errors[0]


@torch.no_grad()
def test_a_reader_of_a_redundant_group_is_refit_without_loss(grouped):
    weight = grouped.model.conv1.weight
    weight[3], weight[7] = weight[1], weight[5]  # channel 3 repeats channel 1, in both halves of the grouped reader
    norm = grouped.model.bn1
    for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        tensor[3], tensor[7] = tensor[1], tensor[5]
    target = grouped.model(grouped.images)
    pruner = pruner_of(grouped, ridge=1e-7)
    assert int(pruner.table.groups[0].order[0]) in (1, 3)
    error = (pruner.prune(grouped.allocation(3))(grouped.images) - target).square().mean() / target.square().mean()
    assert float(error) < 1e-4


@pytest.mark.parametrize("options", [{}, {"memory": 5000}, {"criterion": "l2", "refit": False}])
@given(data=st.data())
@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_candidate_and_delivered_network_have_the_same_logits(case, options, data):
    pruner = pruner_of(case, **options)
    network = CandidateNetwork(pruner)
    images = [network.prepare(case.images[:8])]
    for _ in range(3):  # the working copy must not remember the candidate before
        widths = [data.draw(st.integers(1, group.channels)) for group in case.structure.groups]
        allocation = case.allocation(*widths)
        with torch.no_grad():
            expected = pruner.prune(allocation)(case.images[:8])
        torch.testing.assert_close(network.logits(allocation, images), expected, rtol=1e-4, atol=1e-4)


def test_candidate_is_smaller_in_fact_and_has_no_batch_norm_left(net):
    network = CandidateNetwork(pruner_of(net), dtype=torch.bfloat16)
    loaded = network.load(net.allocation(2, 3, 1))
    assert loaded.block1.conv1.weight.shape == (2, 6, 3, 3)
    assert loaded.block2.conv2.weight.shape == (6, 3, 3, 3)
    assert loaded.block1.conv1.out_channels == 2
    assert loaded.block1.conv1.weight.dtype == torch.bfloat16
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in loaded.modules())


def test_scorer_hands_logits_and_references_to_the_measure(net):
    seen = []

    def measure(logits, targets, reference):
        seen.append((logits, targets, reference))
        return float((logits.argmax(1) == reference).float().mean())

    targets = torch.arange(64) % 4
    scorer = CandidateScorer(CandidateNetwork(pruner_of(net)), net.images, targets, measure, batch_size=10)
    dense = Allocation("filter", {})
    assert scorer(dense) == 1.0
    assert scorer.score(dense, images=25) == 1.0
    assert [len(logits) for logits, _, _ in seen] == [64, 25]
    assert torch.equal(seen[1][1], targets[:25])
    with torch.no_grad():
        assert torch.equal(seen[0][2], net.model(net.images).argmax(1))


@pytest.mark.parametrize(
    ("device", "values", "images"),
    [
        ("cpu", 3 * 32 * 32, 250),
        ("cpu", 64, 250),
        ("cpu", 3 * 224 * 224, 8),
        ("cuda", 64, 2000),
        ("cuda", 3 * 32 * 32, 1365),
        ("cuda", 3 * 224 * 224, 250),
    ],
)
def test_accelerators_are_given_many_images_at_once_and_processors_what_their_cache_holds(device, values, images):
    assert images_at_once(torch.device(device), values) == images


def test_many_large_images_stay_bytes_until_they_are_scored(net, monkeypatch):
    def measure(logits, targets, reference):
        return logits.sum(1), reference

    def scorer(images, **options):
        return CandidateScorer(CandidateNetwork(pruner_of(net)), images, torch.arange(64) % 4, measure, **options)

    images = (net.images * 20 + 128).clamp(0, 255).to(torch.uint8)
    kept = scorer(images.float() / 255, batch_size=10)
    monkeypatch.setattr("amc.pruning.prepared_images._KEPT_BYTES", 0)
    made = scorer(images, batch_size=10, change=lambda part: part.float() / 255)
    assert kept._rest.are_ready
    assert not made._rest.are_ready
    for one, other in zip(made(middle(net)), kept(middle(net)), strict=True):
        assert torch.equal(one, other)
    assert [len(found) for found, *_ in made.stages(middle(net), [7, 30])] == [7, 30]
    order = torch.arange(63, -1, -1)
    for one, other in zip(*(scorer.stages(middle(net), [7, 30], order) for scorer in (kept, made)), strict=True):
        assert torch.equal(one[0], other[0])


@pytest.mark.parametrize("channels", [1, 3])
def test_images_that_are_ready_are_not_copied_and_others_are_kept_as_they_are_prepared(net, channels):
    network = CandidateNetwork(pruner_of(net))
    images = torch.randn(11, channels, 5, 5)
    prepared = network.prepare(images)
    assert PreparedImages(network, prepared, 4, None)._images.data_ptr() == prepared.data_ptr()
    tokens = torch.arange(33).view(11, 3)
    assert PreparedImages(network, tokens, 4, lambda part: part)._images.data_ptr() == tokens.data_ptr()
    kept = PreparedImages(network, images.double(), 4, lambda part: part / 2)
    order = torch.randperm(11, generator=torch.Generator().manual_seed(0))
    for wanted, expected in ((None, prepared), (order, prepared[order])):
        found = list(kept.batches(1, 10, wanted))
        assert torch.equal(torch.cat(found), (expected / 2)[1:10])
        assert all(part.is_contiguous(memory_format=torch.channels_last) for part in found)


def test_the_number_of_images_at_once_changes_no_score(net):
    def measure(logits, targets, reference):
        return logits.sum(1)

    targets, narrow = torch.arange(64) % 4, middle(net)
    scores = [
        CandidateScorer(CandidateNetwork(pruner_of(net)), net.images, targets, measure, batch_size=size)(narrow)
        for size in (10, None)
    ]
    torch.testing.assert_close(*scores)


def test_scorer_refuses_images_without_classes(net):
    with pytest.raises(ConfigurationError, match="64 images, 3 classes"):
        CandidateScorer(CandidateNetwork(pruner_of(net)), net.images, torch.zeros(3), lambda *_: 0.0)


@pytest.mark.parametrize(
    ("allocation", "message"),
    [
        (Allocation("weight", {"block1.conv1": 3}), "kind 'filter'"),
        (Allocation("filter", {"block9": 3}), "'block9'"),
        (Allocation("filter", {"block1.conv1": 0}), "cannot keep 0"),
        (Allocation("filter", {"block1.conv1": 9}), "cannot keep 9"),
    ],
)
def test_allocations_that_do_not_fit_are_refused(net, allocation, message):
    with pytest.raises(ConfigurationError, match=message):
        pruner_of(net, criterion="l1", refit=False).plan(allocation)
