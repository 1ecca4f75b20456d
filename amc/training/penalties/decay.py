"""L1 and L2 penalties on weights, to prepare for magnitude pruning."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from amc.training.penalties.layers import check_strength, weighted_layers
from amc.training.terms import Batch, Term, Training


@dataclass
class L1Decay(Term):
    """Adds `strength * sum(abs(w))` over the weights of convolutions and linear layers.

    Han et al. 2015 (arXiv:1506.02626, section 3.1) find L1 better before retraining, and L2 after it and overall.

    Attributes:
        strength: Weight of the sum.
        layers: Name patterns of the layers.

    Raises:
        ConfigurationError: If the strength is negative.
    """

    strength: float = 1e-5
    layers: tuple[str, ...] = ("*",)
    _weights: list[nn.Parameter] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        """Checks the options."""
        check_strength("decay", self.strength)

    def attach(self, training: Training) -> None:
        """Finds the weights.

        Raises:
            ConfigurationError: If no layer matches.
        """
        layers = weighted_layers(training.model, self.layers).values()
        self._weights = [layer.weight for layer in layers if isinstance(layer.weight, nn.Parameter)]

    def loss(self, batch: Batch) -> Tensor:
        """Returns the weighted sum."""
        return self.strength * torch.stack([self.size(weight).float() for weight in self._weights]).sum()

    def size(self, weight: Tensor) -> Tensor:
        """Returns the sum for one layer, a scalar."""
        return weight.abs().sum()

    def detach(self) -> None:
        """Releases the weights."""
        self._weights = []


@dataclass
class L2Decay(L1Decay):
    """Adds `strength / 2 * sum(w ** 2)` over the weights of convolutions and linear layers.

    The gradient is that of the optimiser's weight decay with the same strength, but it can be limited to some layers.
    """

    strength: float = 1e-4

    def size(self, weight: Tensor) -> Tensor:
        """Returns what is summed of one layer, a scalar."""
        return weight.square().sum() / 2
