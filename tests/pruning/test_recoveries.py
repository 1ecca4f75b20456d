"""Every registered recovery is under one contract."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from amc.errors import ConfigurationError
from amc.pruning import FilterPruner, PruningConfig, SparseSolver, TableOptions, build_tables
from amc.pruning.recovery.reconstruction import Reconstruction
from amc.pruning.recovery.registry import RECOVERIES, PrunedNetwork
from amc.utils.options import create

NAMES = RECOVERIES.names()


@pytest.fixture
def pruned(net):
    images = torch.randn(200, 3, 8, 8, generator=torch.Generator().manual_seed(9))
    net = replace(net, images=images)
    table = build_tables(net.model, net.structure, [images], TableOptions())
    pruner, allocation = FilterPruner(net.model, net.structure, table), net.allocation(3, 4, 5)
    return PrunedNetwork(pruner.prune(allocation), net.model, net.structure, images, pruner.kept(allocation), seed=3)


def recovered(name, pruned):
    model = copy.deepcopy(pruned.model)
    create(RECOVERIES, name)(replace(pruned, model=model))
    return model


@pytest.mark.parametrize("name", NAMES)
def test_a_recovery_changes_values_alone_and_the_same_every_time(name, pruned):
    dense = copy.deepcopy(pruned.dense.state_dict())
    before = torch.get_rng_state()
    first, second = recovered(name, pruned), recovered(name, pruned)
    assert torch.equal(torch.get_rng_state(), before)
    for key, value in first.state_dict().items():
        assert value.shape == pruned.model.state_dict()[key].shape
        assert value.isfinite().all()
        assert torch.equal(value, second.state_dict()[key])
    assert all(torch.equal(value, dense[key]) for key, value in pruned.dense.state_dict().items())
    assert not any(module.training for module in first.modules())


@pytest.mark.parametrize("name", NAMES)
def test_a_recovery_tells_its_progress_and_whether_candidates_are_refit(name, pruned):
    recovery, shares = create(RECOVERIES, name), []
    recovery(replace(pruned, model=copy.deepcopy(pruned.model)), shares.append)
    assert shares == sorted(shares)
    assert all(0 <= share <= 1 for share in shares)
    assert isinstance(recovery.refits_candidates, bool)


def test_the_refit_in_sequence_alone_changes_the_delivered_network(pruned):
    changed = {
        name: any(
            not torch.equal(value, pruned.model.state_dict()[key])
            for key, value in recovered(name, pruned).state_dict().items()
        )
        for name in ("sequential", "once", "none")
    }
    assert changed == {"sequential": True, "once": False, "none": False}


def test_the_ridge_holds_the_refit_to_the_weights_of_the_tables(pruned):
    def distance(name):
        moved = recovered(name, pruned).state_dict()
        return sum(float((value - pruned.model.state_dict()[key]).square().sum()) for key, value in moved.items())

    assert distance("sequential:ridge=100") < 0.1 * distance("sequential")
    with pytest.raises(ConfigurationError, match="rows must be at least 1"):
        PruningConfig(recovery="sequential:rows=0")


def weights_halved(pruned, model):
    """Returns a case of weight pruning, without every other weight."""
    shapes = {layer.name: torch.Size(layer.weight_shape) for layer in pruned.structure.layers}
    masks = {name: torch.arange(shape.numel()).reshape(shape) % 2 == 0 for name, shape in shapes.items()}
    for name, mask in masks.items():
        model.get_submodule(name).weight.data *= mask
    return replace(pruned, model=model, kept={}, masks=masks, solver=SparseSolver(masks, None))


def refit_of_halved(pruned, recovery):
    case, shares = weights_halved(pruned, copy.deepcopy(pruned.dense)), []
    recovery(case, shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)
    return case.model.state_dict()


def test_what_the_dense_network_computes_is_noted_once_for_all_networks_that_lose_weights(pruned, monkeypatch):
    plans = []
    noted = Reconstruction.plan
    monkeypatch.setattr(Reconstruction, "plan", lambda *given, **named: plans.append(1) or noted(*given, **named))
    recovery = create(RECOVERIES, "sequential")
    first, again = (refit_of_halved(pruned, recovery) for _ in range(2))
    assert len(plans) == 1
    assert all(torch.equal(value, again[key]) for key, value in first.items())

    with torch.no_grad():
        pruned.dense.get_submodule(pruned.structure.layers[0].name).weight.mul_(2)
    changed = refit_of_halved(pruned, recovery)
    expected = refit_of_halved(pruned, create(RECOVERIES, "sequential"))
    assert len(plans) == 3
    assert all(torch.equal(value, expected[key]) for key, value in changed.items())
    other = replace(pruned, images=pruned.images.flip(0))
    refit_of_halved(other, recovery)
    assert len(plans) == 4
