"""What every registered criterion keeps to, without being listed here."""

from __future__ import annotations

import copy

import pytest
import torch

from amc.errors import ConfigurationError, UnknownNameError
from amc.pruning import (
    CRITERIA,
    FILTER_CRITERIA,
    WEIGHT_CRITERIA,
    Evidence,
    EvidenceOptions,
    PruningConfig,
    TableOptions,
    WeightPruner,
    WeightTableOptions,
    build_tables,
    build_weight_tables,
)
from amc.pruning.criteria.base import removal_order, weight_scores
from amc.pruning.regression.statistics import SamplingOptions
from amc.structure import Allocation

NEEDS = {"activations", "grams", "gradients"}


def evidence_of(case, dtype=torch.float32, seed=0, labels=True):
    model = copy.deepcopy(case.model).to(dtype)
    classes = model(case.images.to(dtype)).shape[1]
    targets = torch.arange(len(case.images)) % classes
    options = EvidenceOptions(minibatch=16, sampling=SamplingOptions(seed=seed))
    batches = torch.split(case.images.to(dtype), 20)
    return Evidence(model, case.structure, batches, torch.split(targets, 20) if labels else (), options)


def channel_scores(name, case, **how):
    criterion, evidence = FILTER_CRITERIA.get(name)(), evidence_of(case, **how)
    groups = [group for group in case.structure.groups if any(cut.role == "follow" for cut in group.cuts)]
    assert groups
    return {group.name: criterion(group, evidence) for group in groups}


def all_weight_scores(name, case, **how):
    criterion, evidence = WEIGHT_CRITERIA.get(name)(), evidence_of(case, **how)
    return {layer.name: criterion(layer, evidence) for layer in case.structure.layers}


every_filter_criterion = pytest.mark.parametrize("name", FILTER_CRITERIA.names())
every_weight_criterion = pytest.mark.parametrize("name", WEIGHT_CRITERIA.names())


@every_filter_criterion
def test_one_finite_score_a_channel(name, case):
    channels = {group.name: group.channels for group in case.structure.groups}
    for group, scores in channel_scores(name, case).items():
        assert scores.shape == (channels[group],)
        assert scores.is_floating_point()
        assert torch.isfinite(scores).all()
        assert len(scores.unique()) > 1


@every_weight_criterion
def test_one_finite_score_a_weight(name, case):
    for layer, scores in all_weight_scores(name, case).items():
        assert scores.shape == case.model.get_submodule(layer).weight.shape
        assert torch.isfinite(scores).all()
        assert len(scores.unique()) > 1


@pytest.mark.parametrize("family", CRITERIA)
def test_same_evidence_and_seed_same_scores(family, case):
    for name in CRITERIA[family].names():
        score = channel_scores if family == "filter" else all_weight_scores
        first, second = (score(name, case, seed=5) for _ in range(2))
        assert all(torch.equal(first[key], second[key]) for key in first), name


def agree_up_to_ties(single, double):
    """The order by float32 is one by float64, where scores that differ by rounding only count as equal."""
    ordered = double[single.argsort(stable=True)]
    slack = 1e-3 * (double.max() - double.min())
    return bool((ordered.cummax(0).values - ordered <= slack).all())


@every_filter_criterion
def test_channels_are_ranked_alike_in_float32_and_float64(name, case):
    single, double = channel_scores(name, case), channel_scores(name, case, dtype=torch.float64)
    assert all(agree_up_to_ties(single[key], double[key]) for key in single)


@every_weight_criterion
def test_weights_are_ranked_alike_in_float32_and_float64(name, case):
    single, double = all_weight_scores(name, case), all_weight_scores(name, case, dtype=torch.float64)
    assert all(agree_up_to_ties(single[key].flatten(), double[key].flatten()) for key in single)


@pytest.mark.parametrize("family", CRITERIA)
def test_the_network_is_left_as_it_was(family, case):
    for name in CRITERIA[family].names():
        criterion, evidence = CRITERIA[family].get(name)(), evidence_of(case)
        model = evidence.model.train()
        frozen = next(iter(model.parameters())).requires_grad_(False)
        before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
        criterion(case.structure.groups[0] if family == "filter" else case.structure.layers[0], evidence)
        assert all(torch.equal(before[key], value) for key, value in model.state_dict().items()), name
        assert all(module.training for module in model.modules()), name
        assert all(parameter.grad is None for parameter in model.parameters()), name
        assert [p is frozen for p in model.parameters()] == [not p.requires_grad for p in model.parameters()], name
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules()), name
        assert torch.equal(state, torch.get_rng_state()), name


@pytest.mark.parametrize("family", CRITERIA)
def test_needs_are_known_and_complete(family, case):
    """What needs nothing gives scores without images; what needs images says so without them."""
    for name in CRITERIA[family].names():
        criterion = CRITERIA[family].get(name)()
        assert criterion.needs <= NEEDS
        bare = Evidence(case.model, case.structure)
        what = case.structure.groups[0] if family == "filter" else case.structure.layers[0]
        if not criterion.needs:
            assert torch.isfinite(criterion(what, bare)).all()
            continue
        with pytest.raises(ConfigurationError, match="need calibration images"):
            criterion(what, bare)
        if "gradients" in criterion.needs:
            with pytest.raises(ConfigurationError, match="labels"):
                criterion(what, evidence_of(case, labels=False))


@pytest.mark.parametrize("family", CRITERIA)
def test_every_name_is_explained(family):
    assert all(entry.summary for entry in CRITERIA[family].entries())


def test_random_scores_follow_the_seed_and_the_name(net):
    for score in (channel_scores, all_weight_scores):
        first, other = (score("random", net, seed=seed) for seed in (0, 1))
        assert all(not torch.equal(first[key], other[key]) for key in first)
    scores = all_weight_scores("random", net)
    assert not torch.equal(scores["block1.conv2"].flatten()[:9], scores["block2.conv1"].flatten()[:9])


def test_each_kind_of_evidence_is_gathered_once(net):
    evidence = evidence_of(net)
    runs = []
    evidence.model.register_forward_pre_hook(lambda module, inputs: runs.append(len(inputs[0])))
    for _ in range(2):
        for group in net.structure.groups:
            evidence.regressions(group)
        for layer in net.structure.layers:
            evidence.inputs(layer.name)
        assert len(runs) == 2 * 4
    for _ in range(2):
        assert set(evidence.gradients.gates) == {group.name for group in net.structure.groups}
        assert len(runs) == 2 * 4 + 7  # 20 images fall into minibatches of 16 and 4


def test_a_pruner_of_weights_goes_by_its_criterion(net):
    class Smallest:
        needs = frozenset()

        def __call__(self, layer, evidence):
            return -evidence.tensors[layer.weight].abs()

    weight = net.model.head.weight.detach().abs()
    evidence, options = Evidence(net.model, net.structure), WeightTableOptions(refit=False)
    table = build_weight_tables(net.model, net.structure, Smallest(), evidence, options)
    mask = WeightPruner(net.model, net.structure, table).masks(Allocation("weight", {"head": 7}))["head"]
    assert int(mask.sum()) == 7
    assert weight[mask].max() < weight[~mask].min()


def test_errors_at_every_width_are_kept_for_every_criterion(net):
    for name in ("elimination", "l1"):
        tables = build_tables(net.model, net.structure, [net.images], TableOptions(criterion=name))
        for index, group in enumerate(net.structure.groups):
            errors = tables.groups[index].errors
            assert errors.shape == (group.channels + 1,)
            assert errors[-1] == 0
            assert (errors.diff() <= 0).all()
    assert build_tables(net.model, net.structure, [], TableOptions("l1", refit=False)).groups[0].errors is None


@pytest.mark.parametrize(
    ("returned", "message"),
    [(torch.zeros(3), r"one score for each channel of block1.conv1, \(8,\)"), (torch.full((8,), torch.nan), "finite")],
)
def test_a_criterion_that_returns_something_else_is_refused(net, returned, message):
    class Wrong:
        needs = frozenset()

        def __call__(self, group, evidence):
            return returned

    with pytest.raises(ConfigurationError, match=message):
        removal_order(Wrong(), net.structure.groups[0], evidence_of(net))


def test_scores_of_another_shape_than_the_weight_are_refused(net):
    class Wrong:
        needs = frozenset()

        def __call__(self, layer, evidence):
            return torch.zeros(2)

    with pytest.raises(ConfigurationError, match="one score for each weight of stem"):
        weight_scores(Wrong(), net.structure.layers[0], evidence_of(net))


def test_the_family_decides_which_criteria_there_are():
    PruningConfig(family="weight", criterion="magnitude")
    PruningConfig(family="filter", criterion="l1")
    with pytest.raises(UnknownNameError, match="unknown weight criterion 'l1'"):
        PruningConfig(family="weight", criterion="l1")
    with pytest.raises(UnknownNameError, match="unknown criterion 'magnitude'"):
        PruningConfig(criterion="magnitude")
    with pytest.raises(ConfigurationError, match="criterion 'l1' has no option 'order'"):
        PruningConfig(criterion="l1:order=3")
