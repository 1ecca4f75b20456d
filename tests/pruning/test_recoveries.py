"""Every registered recovery is under one contract."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from amc.errors import ConfigurationError
from amc.pruning import FilterPruner, PruningConfig, TableOptions, build_tables
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
