"""Sparse Structure Selection: scaling factors that an accelerated proximal gradient drives to exactly zero."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from amc.errors import ConfigurationError
from amc.training.penalties.layers import ChannelFactors, channel_writers, channels_of, check_strength
from amc.training.terms import Term, Training


@dataclass
class StructureSelection(Term):
    """Scales channels, or whole outputs of layers, by factors under an L1 penalty (Huang and Wang 2018).

    arXiv:1707.01213, section 3.3. The factors start at 1 and are not part of the optimiser's steps. After each step,
    with the gradient g of the loss without the penalty, the learning rate r and the momentum m:

        z = S(f - r * g, r * strength),  v' = z - f + m * v,  f' = max(z + m * v', 0)

    where S is the soft threshold. At the end the factors are folded into the layers, so that a channel whose factor is
    zero is zero in the network itself, and pruning it changes nothing. A residual branch whose last layer has a factor
    of zero (`unit=layer`) is the identity.

    Attributes:
        strength: Weight of the sum of the factors.
        momentum: Of the accelerated proximal gradient, in [0, 1).
        unit: What a factor belongs to: a channel, or a whole layer.
        layers: Name patterns of the batch norms, or of the convolutions of a network without batch norms.

    Raises:
        ConfigurationError: If an option is out of its range.
    """

    strength: float = 0.01
    momentum: float = 0.9
    unit: Literal["channel", "layer"] = "channel"
    layers: tuple[str, ...] = ("*",)
    _factors: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)
    _velocities: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)
    _hooks: ChannelFactors | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        """Checks the options."""
        check_strength("sss", self.strength)
        if not 0 <= self.momentum < 1:
            raise ConfigurationError(f"sss: momentum must be in [0, 1), not {self.momentum:g}")

    def attach(self, training: Training) -> None:
        """Gives every unit a factor of 1.

        Raises:
            ConfigurationError: If no layer matches.
        """
        found = channel_writers(training.model, self.layers)
        for name, layer in found.items():
            count = channels_of(layer) if self.unit == "channel" else 1
            device = next(layer.parameters()).device
            self._factors[name] = torch.ones(count, device=device, requires_grad=True)
            self._velocities[name] = torch.zeros(count, device=device)
        self._hooks = ChannelFactors(found, lambda name, output: self._factors[name].expand(output.shape[1]))
        self._hooks.attach()

    def learned(self) -> Iterable[Tensor]:
        """Returns the factors."""
        return self._factors.values()

    @torch.no_grad()
    def after_step(self, rate: float) -> None:
        """Takes a step of the accelerated proximal gradient."""
        for name, factor in self._factors.items():
            if factor.grad is None:  # the layer did not run in this step
                continue
            moved = factor - rate * factor.grad
            nearest = moved.sign() * (moved.abs() - rate * self.strength).clamp_min(0)
            velocity = nearest - factor + self.momentum * self._velocities[name]
            self._velocities[name] = velocity
            factor.copy_((nearest + self.momentum * velocity).clamp_min(0))
            factor.grad = None

    @torch.no_grad()
    def detach(self) -> None:
        """Folds the factors into the layers."""
        if self._hooks is not None:
            self._hooks.detach()
            self._hooks.fold({name: factor.detach() for name, factor in self._factors.items()})
        self._hooks, self._factors, self._velocities = None, {}, {}

    def state(self) -> dict[str, Any]:
        """Returns factors and velocities."""
        factors = {name: factor.detach().clone() for name, factor in self._factors.items()}
        return {"factors": factors, "velocities": dict(self._velocities)}

    @torch.no_grad()
    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes factors and velocities."""
        for name, factor in self._factors.items():
            factor.copy_(state["factors"][name])
            self._velocities[name] = state["velocities"][name].to(factor.device).clone()
