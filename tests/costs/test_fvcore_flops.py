from __future__ import annotations

import dataclasses
import logging

import pytest
import torch
from torch import nn

from amc.costs.counting import count_flops, count_params, uncounted_operators


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


@dataclasses.dataclass
class Output:
    logits: torch.Tensor
    features: torch.Tensor | None = None


def test_networks_may_return_objects():
    class Wrapped(nn.Linear):
        def forward(self, x):
            return Output(super().forward(x), x)

    assert count_flops(Wrapped(4, 6), torch.zeros(1, 4)) == 24


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
    ("equation", "flops"),
    [("bid,bjd->bij", 7 * 7 * 5), ("bid,bjd->bid", 0), ("bid,bid->bi", 7 * 5), ("abi,abd->id", 7 * 25)],
)
def test_einsum_counts_as_the_products_that_it_runs(equation, flops):
    class Product(nn.Module):
        def forward(self, x):
            return torch.einsum(equation, x, x)

    assert count_flops(Product(), torch.randn(1, 7, 5)) == flops


def test_products_with_vectors_count_nothing_and_those_of_matrices_as_ever():
    class Product(nn.Module):
        def forward(self, x):
            return x @ x.transpose(0, 1) @ x[:, 0] + x[:, 0] @ x @ x.transpose(0, 1)

    # The first product with a vector counts nothing, the two of a vector in front count as those of a row.
    assert count_flops(Product(), torch.randn(4, 5)) == 4 * 5 * 4 + 4 * 5 + 5 * 4
    assert uncounted_operators(Product(), torch.randn(4, 5)) == {"mv": 1}


def test_padding_to_the_same_size_counts_as_any_other():
    same, plain = (nn.Conv2d(4, 6, 3, padding=padding, groups=2) for padding in ("same", 1))
    image = torch.zeros(2, 4, 8, 8)
    assert count_flops(same, image) == count_flops(plain, image) == 2 * 64 * 6 * 2 * 9


def test_attention_counts_by_its_projections_in_whole_encoder_layers_too():
    layer, tokens = nn.TransformerEncoderLayer(12, 3, 20, batch_first=True), torch.zeros(1, 5, 12)
    norms = 2 * 5 * 5 * 12
    assert count_flops(layer, tokens) == 5 * (12 * 36 + 12 * 12 + 2 * 12 * 20) + norms
    assert uncounted_operators(layer, tokens) == {"scaled_dot_product_attention": 1}


class Swish(torch.autograd.Function):
    """A function of the user's own, which nothing is known of."""

    @staticmethod
    def forward(ctx, x):
        return x * torch.sigmoid(x)


class Uncounted(nn.Module):
    """A recurrent layer, transforms and an own function, among much that counts or computes next to nothing."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
        self.recurrent, self.head = nn.LSTM(4, 6, num_layers=2, batch_first=True), nn.Linear(6, 2)

    def forward(self, x):
        x = torch.softmax(Swish.apply(self.norm(self.stem(x))), 1) + x.mean() + torch.linalg.vector_norm(x)
        x = torch.fft.irfft2(torch.fft.rfft2(x)) + torch.fft.irfft2(torch.fft.rfft2(x))
        return self.head(self.recurrent(x.flatten(2).transpose(1, 2))[0].amax(1))


def test_what_is_left_out_is_named():
    found = uncounted_operators(Uncounted(), torch.zeros(1, 3, 8, 8))
    assert found == {"fft_irfft2": 2, "fft_rfft2": 2, "Swish": 1}
    assert uncounted_operators(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)), torch.zeros(1, 3, 8, 8)) == {}
