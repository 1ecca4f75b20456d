from __future__ import annotations

import logging

import pytest
import torch
from torch import nn

from amc.costs.fvcore_flops import count_flops, count_params


class TwoInputs(nn.Module):
    """Adds two linear layers; has a module that is never called and an operator that fvcore does not count."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.unused = nn.Linear(4, 6), nn.Linear(3, 6), nn.Linear(9, 9)

    def forward(self, left, right):
        return torch.erf(self.first(left)) + self.second(right)


def test_a_multiply_add_is_one_flop():
    assert count_flops(nn.Linear(4, 6), torch.zeros(2, 4)) == 2 * 4 * 6
    convolution = nn.Conv2d(3, 8, 3, stride=2, padding=1)
    assert count_flops(convolution, torch.zeros(1, 3, 8, 8)) == 3 * 8 * 9 * 16
    assert count_params(convolution) == 3 * 8 * 9 + 8


def test_tuples_and_keyword_inputs_are_passed_on():
    left, right = torch.zeros(1, 4), torch.zeros(1, 3)
    expected = 4 * 6 + 3 * 6
    assert count_flops(TwoInputs(), (left, right)) == expected
    assert count_flops(TwoInputs(), {"right": right, "left": left}) == expected


def test_counting_is_silent_and_leaves_the_network_as_it_was(caplog):
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), TwoInputs())
    network[1].eval()
    network[2].forward = lambda x: torch.erf(x)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with caplog.at_level(logging.DEBUG):
        count_flops(network, torch.ones(2, 3, 5, 5))
    assert caplog.records == []
    assert [module.training for module in network] == [True, False, True]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_shared_parameters_count_once():
    layer = nn.Linear(5, 5, bias=False)
    assert count_params(nn.Sequential(layer, layer)) == 25


@pytest.mark.parametrize(
    ("equation", "flops"), [("bid,bjd->bij", 7 * 7 * 5), ("bid,bjd->bid", 0), ("bid,bid->bi", 7 * 5)]
)
def test_einsum_counts_as_the_products_that_it_runs(equation, flops):
    class Product(nn.Module):
        def forward(self, x):
            return torch.einsum(equation, x, x)

    assert count_flops(Product(), torch.randn(1, 7, 5)) == flops
