"""L0 regularisation with hard concrete gates on channels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from amc.errors import ConfigurationError
from amc.runtime.collectives import ALONE, Collectives
from amc.training.penalties.layers import ChannelFactors, channel_writers, channels_of, check_strength
from amc.training.terms import Batch, Term, Training

BETA, LOW, HIGH = 2 / 3, -0.1, 1.1
"""Temperature of the concrete distribution, and the interval it is stretched to (the paper's beta, gamma and zeta)."""
_LARGEST = math.log(100)
"""Bound on the absolute value of log alpha, as in the authors' code."""


def sampled_gates(log_alpha: Tensor, uniform: Tensor) -> Tensor:
    """Returns gates in [0, 1] (Louizos et al. 2018, Eq. 10 to 12); `uniform` holds numbers in (0, 1)."""
    concrete = torch.sigmoid((uniform.log() - (-uniform).log1p() + log_alpha) / BETA)
    return (concrete * (HIGH - LOW) + LOW).clamp(0, 1)


def open_probability(log_alpha: Tensor) -> Tensor:
    """Returns the probability that a gate is not zero (Louizos et al. 2018, Eq. 12)."""
    return torch.sigmoid(log_alpha - BETA * math.log(-LOW / HIGH))


def settled_gates(log_alpha: Tensor) -> Tensor:
    """Returns the gates to use after training (Louizos et al. 2018, Eq. 13)."""
    return (torch.sigmoid(log_alpha) * (HIGH - LOW) + LOW).clamp(0, 1)


@dataclass
class HardConcrete(Term):
    """Gates channels at random, and learns the probability that each gate is open (Louizos et al. 2018).

    arXiv:1712.01312. Adds `strength / N * sum(|g| * P(gate is not zero))`, with N training images and |g| the weights
    that a gate stands for. Gates are drawn once a step. At the end the gates of Eq. 13 are folded into the layers: a
    closed channel is zero in the network itself.

    Deviations: gates are applied after the batch norm, where they zero the shift too; they start nearly open, so that a
    trained network keeps its accuracy; and they are trained with their own Adam, beside the network's SGD.

    Attributes:
        strength: Weight of the expected number of weights, divided by the number of training images.
        drop_rate: Probability, at the start, that a gate is closed before the stretch; the authors take 0.5.
        learning_rate: Of the gates.
        layers: Name patterns of the batch norms, or of the convolutions of a network without batch norms.

    Raises:
        ConfigurationError: If an option is out of its range.
    """

    strength: float = 0.1
    drop_rate: float = 0.05
    learning_rate: float = 0.01
    layers: tuple[str, ...] = ("*",)
    _alphas: dict[str, nn.Parameter] = field(default_factory=dict, init=False, repr=False)
    _sizes: dict[str, float] = field(default_factory=dict, init=False, repr=False)
    _optimizer: torch.optim.Adam | None = field(default=None, init=False, repr=False)
    _hooks: ChannelFactors | None = field(default=None, init=False, repr=False)
    _model: nn.Module | None = field(default=None, init=False, repr=False)
    _images: int = field(default=1, init=False, repr=False)
    _collectives: Collectives = field(default=ALONE, init=False, repr=False)
    _drawn: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        """Checks the options."""
        check_strength("l0", self.strength)
        if not 0 < self.drop_rate < 1 or self.learning_rate <= 0:
            raise ConfigurationError(
                f"l0: drop_rate must be in (0, 1) and learning_rate positive, not {self.drop_rate:g} and "
                f"{self.learning_rate:g}"
            )

    def attach(self, training: Training) -> None:
        """Gives every channel a gate.

        Raises:
            ConfigurationError: If no layer matches.
        """
        found = channel_writers(training.model, self.layers)
        weights = _weights_behind(training.model, found)
        start = math.log(1 - self.drop_rate) - math.log(self.drop_rate)
        for name, layer in found.items():
            place = next(layer.parameters()).device
            self._alphas[name] = nn.Parameter(torch.full((channels_of(layer),), start, device=place))
            self._sizes[name] = weights[name] / channels_of(layer)
        self._optimizer = torch.optim.Adam(self._alphas.values(), lr=self.learning_rate)
        self._model, self._images, self._collectives = training.model, training.images, training.collectives
        self._hooks = ChannelFactors(found, self._gates)
        self._hooks.attach()

    def loss(self, batch: Batch) -> Tensor:
        """Returns the weighted expected number of weights."""
        parts = [self._sizes[name] * open_probability(alpha).sum() for name, alpha in self._alphas.items()]
        return self.strength / self._images * torch.stack(parts).sum()

    def learned(self) -> Iterable[Tensor]:
        """Returns the gates."""
        return self._alphas.values()

    def after_step(self, rate: float) -> None:
        """Trains the gates; the draws of the step are released."""
        assert self._optimizer is not None
        self._drawn.clear()
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            for alpha in self._alphas.values():
                alpha.clamp_(-_LARGEST, _LARGEST)

    def detach(self) -> None:
        """Folds the gates into the layers."""
        if self._hooks is not None:
            self._hooks.detach()
            self._hooks.fold({name: settled_gates(alpha.detach()) for name, alpha in self._alphas.items()})
        self._alphas, self._hooks, self._optimizer, self._model = {}, None, None, None

    def state(self) -> dict[str, Any]:
        """Returns the gates and their optimiser."""
        assert self._optimizer is not None
        alphas = {name: alpha.detach().clone() for name, alpha in self._alphas.items()}
        return {"alphas": alphas, "optimizer": self._optimizer.state_dict()}

    @torch.no_grad()
    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes the gates and their optimiser."""
        assert self._optimizer is not None
        for name, alpha in self._alphas.items():
            alpha.copy_(state["alphas"][name])
        self._optimizer.load_state_dict(state["optimizer"])

    def _gates(self, name: str, output: Tensor) -> Tensor:
        """Returns the gates of a layer: drawn once per step while the network trains, fixed at other times."""
        alpha = self._alphas[name]
        if self._model is None or not self._model.training:
            return settled_gates(alpha)
        if name not in self._drawn:
            self._drawn[name] = self._collectives.of_first(torch.rand_like(alpha)).clamp(1e-6, 1 - 1e-6)
        return sampled_gates(alpha, self._drawn[name])


def _weights_behind(model: nn.Module, layers: Mapping[str, nn.Module]) -> dict[str, float]:
    """Returns how many weights write each layer's output; for a batch norm, those of the layer before it."""
    before, found = 0, {}
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if isinstance(weight, Tensor) and weight.dim() > 1:
            before = weight.numel()
        if name in layers:
            found[name] = float(max(before, channels_of(module)))
    return found
