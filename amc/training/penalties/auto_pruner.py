"""AutoPruner: codes for the channels, computed from activations, become 0 or 1 while the network trains."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from amc.errors import ConfigurationError
from amc.runtime.call import inference
from amc.runtime.collectives import ALONE, Collectives
from amc.training.penalties.layers import ChannelFactors, Layers, channel_writers
from amc.training.terms import Batch, Term, Training

_EVERY = 20  # steps between updates of the ratio loss's weight
_FIRST_WEIGHT, _WEIGHT = 10.0, 100.0
_CLEAR = 0.9, 0.2, 0.8  # share of the codes that should lie below the second or above the third number


def code_of(logits: Tensor, scale: float) -> Tensor:
    """Returns the scaled sigmoid (Luo and Wu 2018, Eq. 3)."""
    return torch.sigmoid(scale * logits.float())


def ratio_loss(code: Tensor, keep_ratio: float, weight: float) -> Tensor:
    """Returns the squared distance of the mean code from the share to keep (Luo and Wu 2018, Eq. 4)."""
    return weight * (code.mean() - keep_ratio).square()


def ratio_weight(code: Tensor, keep_ratio: float) -> float:
    """Returns the weight of the ratio loss: 100 times how far the share of open codes is from the share to keep."""
    return _WEIGHT * abs(float((code > 0.5).float().mean()) - keep_ratio)


def pooled_mean(output: Tensor, collectives: Collectives = ALONE) -> Tensor:
    """Returns the input of a coder: the batch's mean of `(N, C, H, W)`, max-pooled by 2x2 and flattened."""
    mean = collectives.average_with_gradient(output.float().mean(0, keepdim=True))
    if mean.dim() == 4 and min(mean.shape[-2:]) > 1:
        mean = functional.max_pool2d(mean, 2)
    return mean.flatten(1)


@dataclass
class AutoPruner(Term):
    """Multiplies channels by codes that one linear layer computes from the batch's mean activation (Luo and Wu 2018).

    arXiv:1805.08941, section 3. Codes are `sigmoid(scale * logits)`; the scale rises along a line from `first_scale` to
    `last_scale`, and by 0.1 more a step while less than 90 % of a layer's codes lie outside (0.2, 0.8). The ratio loss
    pulls the share of open channels to `keep_ratio`, with the weight of the authors' code. At the end, and in
    evaluation, codes are 0 or 1, those of the last step; they are folded into the layers.

    Deviations: all layers are pruned at once, not one after another; codes are applied between batch norm and ReLU,
    which gives the same activations, as no code is negative; and the linear layers are trained with their own Adam.

    Attributes:
        keep_ratio: Share of the channels that every layer keeps, in (0, 1].
        first_scale: Scale of the sigmoid at the start.
        last_scale: Scale of the sigmoid at the end.
        learning_rate: Of the linear layers.
        layers: Name patterns of the batch norms, or of the convolutions of a network without batch norms.

    Raises:
        ConfigurationError: If an option is out of its range.
    """

    keep_ratio: float = 0.5
    first_scale: float = 0.1
    last_scale: float = 2.0
    learning_rate: float = 1e-3
    layers: tuple[str, ...] = ("*",)
    _coders: dict[str, nn.Linear] = field(default_factory=dict, init=False, repr=False)
    _codes: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)
    _weights: dict[str, float] = field(default_factory=dict, init=False, repr=False)
    _extra: dict[str, float] = field(default_factory=dict, init=False, repr=False)
    _scale: float = field(default=0.0, init=False, repr=False)
    _optimizer: torch.optim.Adam | None = field(default=None, init=False, repr=False)
    _hooks: ChannelFactors | None = field(default=None, init=False, repr=False)
    _training: Training | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        """Checks the options."""
        if not 0 < self.keep_ratio <= 1 or not 0 < self.first_scale <= self.last_scale or self.learning_rate <= 0:
            raise ConfigurationError(
                "autopruner: keep_ratio must be in (0, 1], 0 < first_scale <= last_scale, and learning_rate positive, "
                f"not {self.keep_ratio:g}, {self.first_scale:g}, {self.last_scale:g} and {self.learning_rate:g}"
            )

    def attach(self, training: Training) -> None:
        """Gives every layer a coder, whose size depends on the example input.

        Raises:
            ConfigurationError: If no layer matches.
        """
        found = channel_writers(training.model, self.layers)
        for name, (channels, features) in _sizes(training, found).items():
            coder = nn.Linear(features, channels, bias=False, device=training.example.device)
            nn.init.normal_(coder.weight, std=10 * math.sqrt(2 / features))
            self._coders[name] = coder
            self._codes[name] = torch.ones(channels, device=training.example.device)
            self._weights[name], self._extra[name] = _FIRST_WEIGHT, 0.0
        parameters = [coder.weight for coder in self._coders.values()]
        self._optimizer = torch.optim.Adam(parameters, lr=self.learning_rate)
        self._training, self._scale = training, self.first_scale
        self._hooks = ChannelFactors({name: found[name] for name in self._coders}, self._factors)
        self._hooks.attach()

    def loss(self, batch: Batch) -> Tensor:
        """Returns the ratio losses of all layers."""
        assert self._training is not None
        steps = self._training.steps * self._training.epochs
        self._scale = self.first_scale + (self.last_scale - self.first_scale) * min(1.0, (batch.step + 1) / steps)
        parts = [ratio_loss(code, self.keep_ratio, self._weights[name]) for name, code in self._codes.items()]
        if batch.step % _EVERY == _EVERY - 1:
            self._weights = {name: ratio_weight(code, self.keep_ratio) for name, code in self._codes.items()}
        return torch.stack(parts).sum()

    def learned(self) -> Iterable[Tensor]:
        """Returns the weights of the coders."""
        return [coder.weight for coder in self._coders.values()]

    def after_step(self, rate: float) -> None:
        """Trains the coders, and sharpens codes that are still undecided."""
        assert self._optimizer is not None
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        share, low, high = _CLEAR
        for name, code in self._codes.items():
            self._codes[name] = code = code.detach()
            if float(((code < low) | (code > high)).float().mean()) < share:
                self._extra[name] += 0.1

    def detach(self) -> None:
        """Folds the codes, 0 or 1, into the layers."""
        if self._hooks is not None:
            self._hooks.detach()
            self._hooks.fold({name: _settled(code) for name, code in self._codes.items()})
        self._hooks, self._optimizer, self._training = None, None, None
        self._coders, self._codes, self._weights, self._extra = {}, {}, {}, {}

    def state(self) -> dict[str, Any]:
        """Returns the coders, their codes and optimiser, with the scale and the weight of the ratio loss."""
        assert self._optimizer is not None
        return {
            "coders": {name: coder.weight.detach().clone() for name, coder in self._coders.items()},
            "codes": {name: code.detach().clone() for name, code in self._codes.items()},
            "optimizer": self._optimizer.state_dict(),
            "weights": dict(self._weights),
            "extra": dict(self._extra),
            "scale": self._scale,
        }

    @torch.no_grad()
    def restore(self, state: Mapping[str, Any]) -> None:
        """Restores what `state` returned."""
        assert self._optimizer is not None
        for name, coder in self._coders.items():
            coder.weight.copy_(state["coders"][name])
            self._codes[name] = state["codes"][name].to(coder.weight.device).clone()
        self._optimizer.load_state_dict(state["optimizer"])
        self._weights, self._extra, self._scale = dict(state["weights"]), dict(state["extra"]), state["scale"]

    def _factors(self, name: str, output: Tensor) -> Tensor:
        """Returns the codes of a layer: computed while the network trains, fixed at other times."""
        assert self._training is not None
        if not self._training.model.training:
            return _settled(self._codes[name])
        logits = self._coders[name](pooled_mean(output, self._training.collectives))[0]
        self._codes[name] = code_of(logits, self._scale + self._extra[name])
        return self._codes[name]


def _settled(code: Tensor) -> Tensor:
    """Returns codes of 0 or 1; if all are closed, the highest is opened."""
    code = code.detach()
    return ((code > 0.5) | (code == code.max())).float()


def _sizes(training: Training, layers: Layers) -> dict[str, tuple[int, int]]:
    """Returns how many channels and pooled features the outputs of layers have, for the layers that run."""
    sizes: dict[str, tuple[int, int]] = {}

    def measure(name: str, output: Tensor) -> Tensor:
        sizes[name] = output.shape[1], pooled_mean(output).shape[1]
        return torch.ones(output.shape[1], device=output.device)

    factors = ChannelFactors(layers, measure)
    factors.attach()
    try:
        with inference(training.model):
            training.model(training.example)
    finally:
        factors.detach()
    return sizes
