"""Sparse variational dropout: every weight learns how much noise it tolerates; the most tolerant are removed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.conv import _ConvNd
from torch.utils.hooks import RemovableHandle

from amc.errors import ConfigurationError
from amc.training.penalties.layers import Layers, check_strength, weighted_layers
from amc.training.terms import Batch, Term, Training

_K1, _K2, _K3 = 0.63576, 1.87320, 1.48695
_FIRST = -10.0  # log sigma^2 at the start
_BOUND = 8.0  # on the absolute value of log alpha
_TINY = 1e-8
_CONVOLUTIONS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}


def negative_divergence(log_alpha: Tensor) -> Tensor:
    """Returns minus the KL divergence from the log-uniform prior, by element (Molchanov et al. 2017, Eq. 14)."""
    return _K1 * torch.sigmoid(_K2 + _K3 * log_alpha) - 0.5 * functional.softplus(-log_alpha) - _K1


def log_alpha_of(weight: Tensor, log_variance: Tensor) -> Tensor:
    """Returns log(sigma^2 / weight^2), bounded as in the authors' code."""
    return (log_variance - (weight.square() + _TINY).log()).clamp(-_BOUND, _BOUND)


def apply_layer(layer: nn.Module, inputs: Tensor, weight: Tensor) -> Tensor:
    """Runs a linear layer, or a convolution padded with zeros, with another weight and no bias."""
    if isinstance(layer, nn.Linear):
        return functional.linear(inputs, weight)
    assert isinstance(layer, _ConvNd)
    convolve = _CONVOLUTIONS[len(layer.kernel_size)]
    return convolve(inputs, weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)


@dataclass
class VariationalDropout(Term):
    """Gives every weight Gaussian noise with a learnt variance (Molchanov et al. 2017, arXiv:1701.05369).

    The output of a layer is drawn from its mean and variance, x * w and x^2 * sigma^2 (local reparameterisation). Adds
    `share / N * sum(KL)` with N training images, where `share` is 0 up to `start`, and rises along a line to `strength`
    at `full`. Weights with log alpha = log(sigma^2 / w^2) above `threshold` are zero in evaluation, and in the network
    at the end.

    Deviation: the variances are trained with their own Adam beside the network's SGD, ten times as fast as in the
    paper, whose trainings have 200 epochs.

    Attributes:
        strength: Weight of the divergence at the end; the paper's is 1.
        start: Share of the training from which the divergence counts.
        full: Share of the training from which it counts in full.
        threshold: Weights with a larger log alpha are removed; at 3 the noise is 4.5 times the weight.
        learning_rate: Of the variances.
        layers: Name patterns of the convolutions and linear layers.

    Raises:
        ConfigurationError: If an option is out of its range.
    """

    strength: float = 1.0
    start: float = 0.1
    full: float = 0.4
    threshold: float = 3.0
    learning_rate: float = 0.01
    layers: tuple[str, ...] = ("*",)
    _found: Layers = field(default_factory=dict, init=False, repr=False)
    _variances: dict[str, nn.Parameter] = field(default_factory=dict, init=False, repr=False)
    _optimizer: torch.optim.Adam | None = field(default=None, init=False, repr=False)
    _handles: list[RemovableHandle] = field(default_factory=list, init=False, repr=False)
    _training: Training | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        """Checks the options."""
        check_strength("variational_dropout", self.strength)
        if not 0 <= self.start <= self.full <= 1 or self.learning_rate <= 0:
            raise ConfigurationError(
                "variational_dropout: 0 <= start <= full <= 1 must hold and learning_rate be positive, not "
                f"{self.start:g}, {self.full:g} and {self.learning_rate:g}"
            )

    def attach(self, training: Training) -> None:
        """Gives every weight a variance.

        Raises:
            ConfigurationError: If no layer matches, or only layers whose noise cannot be computed.
        """
        found = weighted_layers(training.model, self.layers)
        self._found = {name: layer for name, layer in found.items() if _can_be_noisy(layer)}
        if not self._found:
            raise ConfigurationError(
                "variational_dropout needs linear layers or convolutions, padded with zeros and not transposed, "
                f"and {', '.join(list(found)[:5])} are none"
            )
        for name, layer in self._found.items():
            self._variances[name] = nn.Parameter(torch.full_like(_weight(layer), _FIRST))
            self._handles.append(layer.register_forward_hook(self._hook(name)))
        self._optimizer = torch.optim.Adam(self._variances.values(), lr=self.learning_rate)
        self._training = training

    def loss(self, batch: Batch) -> Tensor:
        """Returns the weighted divergence."""
        assert self._training is not None
        done = batch.step / max(1, self._training.steps * self._training.epochs)
        share = float(done >= self.full)
        if self.start < done < self.full:
            share = (done - self.start) / (self.full - self.start)
        parts = [-negative_divergence(self._log_alpha(name).float()).sum() for name in self._found]
        return self.strength * share / self._training.images * torch.stack(parts).sum()

    def learned(self) -> Iterable[Tensor]:
        """Returns the variances."""
        return self._variances.values()

    def after_step(self, rate: float) -> None:
        """Trains the variances."""
        assert self._optimizer is not None
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)

    @torch.no_grad()
    def detach(self) -> None:
        """Sets the weights with the most noise to zero."""
        for handle in self._handles:
            handle.remove()
        for name, layer in self._found.items():
            if name in self._variances:
                _weight(layer).masked_fill_(self._log_alpha(name) > self.threshold, 0.0)
        self._handles.clear()
        self._found, self._variances, self._optimizer, self._training = {}, {}, None, None

    def state(self) -> dict[str, Any]:
        """Returns the variances and their optimiser."""
        assert self._optimizer is not None
        variances = {name: variance.detach().clone() for name, variance in self._variances.items()}
        return {"variances": variances, "optimizer": self._optimizer.state_dict()}

    @torch.no_grad()
    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes the variances and their optimiser."""
        assert self._optimizer is not None
        for name, variance in self._variances.items():
            variance.copy_(state["variances"][name])
        self._optimizer.load_state_dict(state["optimizer"])

    def _log_alpha(self, name: str) -> Tensor:
        return log_alpha_of(_weight(self._found[name]), self._variances[name])

    def _hook(self, name: str) -> Any:
        """Returns what adds noise to a layer's output in training, and takes what goes out of it in evaluation."""

        def change(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            assert self._training is not None
            if not self._training.model.training:
                gone = _weight(layer).masked_fill(self._log_alpha(name) <= self.threshold, 0.0)
                return output - apply_layer(layer, inputs[0], gone.to(inputs[0].dtype))
            variance = apply_layer(layer, inputs[0].square(), self._variances[name].exp())
            return output + (variance + _TINY).sqrt() * torch.randn_like(output)

        return change


def _weight(layer: nn.Module) -> nn.Parameter:
    assert isinstance(layer.weight, nn.Parameter)
    return layer.weight


def _can_be_noisy(layer: nn.Module) -> bool:
    """Returns whether `apply_layer` computes what the layer itself computes."""
    if isinstance(layer, nn.Linear):
        return True
    return isinstance(layer, _ConvNd) and not layer.transposed and layer.padding_mode == "zeros"
