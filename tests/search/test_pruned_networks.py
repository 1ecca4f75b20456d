"""Networks that were pruned lately are handed out again, each time one of the caller's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from amc.pipeline.pruned_networks import PrunedNetworks


class Factory:
    """Makes networks of one linear layer, and counts them."""

    def __init__(self, features=4):
        self.made, self.features = 0, features

    def __call__(self):
        self.made += 1
        return nn.Linear(self.features, 1, bias=False)


def test_a_network_is_made_once_and_every_caller_gets_a_copy():
    make, networks = Factory(), PrunedNetworks()
    first = networks.get((3,), make)
    expected = first.weight.detach().clone()
    with torch.no_grad():
        first.weight.zero_()
    second = networks.get((3,), make)
    assert make.made == 1
    assert torch.equal(second.weight, expected)
    assert (3,) in networks
    assert (4,) not in networks


def test_what_was_not_asked_for_the_longest_goes_first():
    make, networks = Factory(), PrunedNetworks(held_bytes=32)  # two networks of four numbers
    for key in ((1,), (2,), (1,), (3,)):
        networks.get(key, make)
    assert [key in networks for key in ((1,), (2,), (3,))] == [True, False, True]
    assert make.made == 3


@pytest.mark.parametrize("held_bytes", [0, 15])
def test_a_network_beyond_the_bound_is_not_kept(held_bytes):
    make, networks = Factory(), PrunedNetworks(held_bytes)
    networks.get((1,), make)
    networks.get((1,), make)
    assert make.made == 2
