from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from amc.errors import ConfigurationError
from amc.pruning import WeightPruner, apply_masks
from amc.pruning.masks import ranks
from amc.structure import Allocation


@given(values=st.lists(st.integers(-3, 3), min_size=1, max_size=40), data=st.data())
def test_masks_keep_exactly_as_many_of_the_largest_and_break_ties_by_place(values, data):
    weight = torch.tensor(values, dtype=torch.float32)
    count = data.draw(st.integers(0, len(values)))
    expected = sorted(range(len(values)), key=lambda i: (-abs(values[i]), i))[:count]
    assert (ranks(weight.abs()) < count).nonzero().flatten().tolist() == sorted(expected)


def test_pruned_network_has_exactly_the_weights_asked_for(net):
    pruner = WeightPruner(net.model, net.structure)
    allocation = Allocation("weight", {"block1.conv1": 100, "head": 1})
    pruned = pruner.prune(allocation)
    assert int(pruned.block1.conv1.weight.count_nonzero()) == 100
    assert int(pruned.head.weight.count_nonzero()) == 1
    assert torch.equal(pruned.head.weight.abs().max(), net.model.head.weight.abs().max())
    assert torch.equal(pruned.stem.weight, net.model.stem.weight)
    assert int(net.model.head.weight.count_nonzero()) == 80


def test_masks_hold_through_training_steps(net):
    pruner = WeightPruner(net.model, net.structure)
    allocation = Allocation("weight", {"block1.conv1": 50, "head": 7})
    pruned, masks = pruner.prune(allocation), pruner.masks(allocation)
    optimiser = torch.optim.SGD(pruned.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    for _ in range(3):
        optimiser.zero_grad()
        pruned(net.images).square().mean().backward()
        optimiser.step()
        apply_masks(pruned, masks)
    assert not pruned.head.weight[~masks["head.weight"]].any()
    assert int(pruned.block1.conv1.weight.count_nonzero()) == 50
    assert not torch.equal(pruned.head.weight, WeightPruner(net.model, net.structure).prune(allocation).head.weight)


def test_weights_are_sorted_once(net, monkeypatch):
    sorted_weights = []
    monkeypatch.setattr(
        "amc.pruning.weight_pruner.ranks",
        lambda scores: sorted_weights.append(scores) or ranks(scores),
    )
    pruner = WeightPruner(net.model, net.structure)
    for count in (50, 7):
        assert int(pruner.masks(Allocation("weight", {"head": count}))["head.weight"].sum()) == count
    assert len(sorted_weights) == 1


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
        WeightPruner(net.model, net.structure).masks(allocation)
