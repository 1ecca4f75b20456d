"""What counts as a residual stream: a sum of what different layers write."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional
from torchvision.ops import FrozenBatchNorm2d

IMAGE = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
TOKENS = torch.randn(1, 5, 7, generator=torch.Generator().manual_seed(2))


class Between(nn.Module):
    """Two convolutions `a` and `b`, a square one in between for subclasses, and constants along the channels."""

    def __init__(self):
        super().__init__()
        self.a, self.square, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 2, 1)
        self.shift = nn.Parameter(torch.randn(1, 8, 1, 1))
        self.register_buffer("scale", torch.rand(1, 8, 1, 1) + 0.5)

    def forward(self, x):
        return self.b(self.between(self.a(x)).relu())


class WithParameter(Between):
    def between(self, x):
        return x * self.scale + self.shift


class WithBufferInPlace(Between):
    def between(self, x):
        x += self.scale.reshape(1, -1, 1, 1)
        return x


class WithStatistic(Between):
    def between(self, x):
        return x - x.mean((2, 3), keepdim=True)


class WithItself(Between):
    def between(self, x):
        return x + x.tanh()


class Attending(Between):
    """CBAM's channel attention: one layer on the means and on the maxima."""

    def between(self, x):
        average, maximum = x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
        return x * torch.sigmoid(self.square(average) + self.square(maximum))


class Residual(Between):
    def between(self, x):
        return x + self.square(x.relu())


class Interpolated(Between):
    def between(self, x):
        return torch.lerp(x, self.square(x.relu()), 0.3)


@pytest.mark.parametrize(
    ("network", "residual"),
    [
        (WithParameter, False),
        (WithBufferInPlace, False),
        (WithStatistic, False),
        (WithItself, False),
        (Attending, False),
        (Residual, True),
        (Interpolated, True),
    ],
)
def test_a_stream_is_a_sum_of_what_different_layers_write(tools, network, residual):
    structure, _ = tools.traced(network(), IMAGE)
    group = tools.groups_of(structure)["a"]
    assert group.prunable
    assert group.residual is residual


def test_the_bias_of_a_linear_layer_on_tokens_makes_no_stream(tools):
    class Transposed(nn.Module):
        """PyTorch adds the bias on its own where the tokens are not contiguous."""

        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(5, 8), nn.Linear(8, 3)

        def forward(self, x):
            return self.second(self.first(x.transpose(1, 2)).relu())

    structure, _ = tools.traced(Transposed(), TOKENS)
    assert not tools.groups_of(structure)["first"].residual


def test_a_frozen_batch_norm_makes_no_stream(tools):
    model = nn.Sequential(nn.Conv2d(3, 8, 3), FrozenBatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3))
    structure, _ = tools.traced(model, IMAGE)
    assert not tools.groups_of(structure)["0"].residual


def test_embeddings_of_words_and_places_are_a_stream(tools):
    class Placed(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.places, self.head = nn.Embedding(10, 8), nn.Embedding(10, 8), nn.Linear(8, 3)

        def forward(self, x):
            return self.head(functional.relu(self.words(x) + self.places(torch.arange(x.shape[1]))))

    structure, _ = tools.traced(Placed(), torch.randint(0, 10, (1, 5)))
    assert tools.groups_of(structure)["words"].residual
