"""Networks that were pruned lately are handed out again, each time one of the caller's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from amc.pipeline.pruned_networks import PrunedNetworks
from amc.structure import Allocation


def keeping(width, name="a"):
    return Allocation("weight", {name: width})


class Factory:
    """Makes networks of one linear layer, and counts them."""

    def __init__(self, features=4):
        self.made, self.features = 0, features

    def __call__(self):
        self.made += 1
        return nn.Linear(self.features, 1, bias=False)


def test_a_network_is_made_once_and_every_caller_gets_a_copy():
    make, networks = Factory(), PrunedNetworks()
    first = networks.get(keeping(3), make)
    expected = first.weight.detach().clone()
    with torch.no_grad():
        first.weight.zero_()
    second = networks.get(keeping(3), make)
    assert make.made == 1
    assert torch.equal(second.weight, expected)
    assert keeping(3) in networks
    assert keeping(4) not in networks
    assert keeping(3, "b") not in networks


def test_what_was_not_asked_for_the_longest_goes_first():
    make, networks = Factory(), PrunedNetworks(held_bytes=32)  # two networks of four numbers
    for width in (1, 2, 1, 3):
        networks.get(keeping(width), make)
    assert [keeping(width) in networks for width in (1, 2, 3)] == [True, False, True]
    assert make.made == 3


@pytest.mark.parametrize("held_bytes", [0, 15])
def test_a_network_beyond_the_bound_is_not_kept(held_bytes):
    make, networks = Factory(), PrunedNetworks(held_bytes)
    networks.get(keeping(1), make)
    networks.get(keeping(1), make)
    assert make.made == 2


def test_equal_widths_of_other_layers_are_another_network():
    make, networks = Factory(), PrunedNetworks()
    of_a, of_b = (networks.get(keeping(3, name), make) for name in "ab")
    assert make.made == 2
    assert not torch.equal(of_a.weight, of_b.weight)
    assert torch.equal(networks.get(keeping(3, "a"), make).weight, of_a.weight)
