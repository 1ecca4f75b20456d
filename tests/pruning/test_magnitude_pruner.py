from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from amc.errors import ConfigurationError
from amc.pruning import Evidence, WeightPruner, WeightTableOptions, apply_masks, build_weight_tables
from amc.pruning.criteria.norms import Magnitude
from amc.pruning.masks import ranks
from amc.structure import Allocation


@given(values=st.lists(st.integers(-3, 3), min_size=1, max_size=40), data=st.data())
def test_masks_keep_exactly_as_many_of_the_largest_and_break_ties_by_place(values, data):
    weight = torch.tensor(values, dtype=torch.float32)
    count = data.draw(st.integers(0, len(values)))
    expected = sorted(range(len(values)), key=lambda i: (-abs(values[i]), i))[:count]
    assert (ranks(weight.abs()) < count).nonzero().flatten().tolist() == sorted(expected)


def pruner_of(case):
    criterion, evidence = Magnitude(), Evidence(case.model, case.structure)
    options = WeightTableOptions(refit=False)
    table = build_weight_tables(case.model, case.structure, criterion, evidence, options)
    return WeightPruner(case.model, case.structure, table)


def test_pruned_network_has_exactly_the_weights_asked_for(net):
    pruner = pruner_of(net)
    allocation = Allocation("weight", {"block1.conv1": 100, "head": 1})
    pruned = pruner.prune(allocation)
    assert int(pruned.block1.conv1.weight.count_nonzero()) == 100
    assert int(pruned.head.weight.count_nonzero()) == 1
    assert torch.equal(pruned.head.weight.abs().max(), net.model.head.weight.abs().max())
    assert torch.equal(pruned.stem.weight, net.model.stem.weight)
    assert int(net.model.head.weight.count_nonzero()) == 80


def test_masks_hold_through_training_steps(net):
    pruner = pruner_of(net)
    allocation = Allocation("weight", {"block1.conv1": 50, "head": 7})
    pruned, masks = pruner.prune(allocation), pruner.masks(allocation)
    optimiser = torch.optim.SGD(pruned.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    for _ in range(3):
        optimiser.zero_grad()
        pruned(net.images).square().mean().backward()
        optimiser.step()
        apply_masks(pruned, {f"{layer}.weight": mask for layer, mask in masks.items()})
    assert not pruned.head.weight[~masks["head"]].any()
    assert int(pruned.block1.conv1.weight.count_nonzero()) == 50
    assert not torch.equal(pruned.head.weight, pruner_of(net).prune(allocation).head.weight)


@pytest.mark.parametrize(
    ("allocation", "message"),
    [
        (Allocation("filter", {"head": 3}), "kind 'weight'"),
        (Allocation("weight", {"tail": 3}), "'tail'"),
        (Allocation("weight", {"head": 81}), "cannot keep 81"),
        (Allocation("weight", {"head": 0}), "cannot keep 0"),
    ],
)
def test_allocations_that_do_not_fit_are_refused(net, allocation, message):
    with pytest.raises(ConfigurationError, match=message):
        pruner_of(net).masks(allocation)
