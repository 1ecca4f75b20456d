"""The layers that a penalty concerns, and factors on the channels that they write."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.utils.hooks import RemovableHandle

from amc.errors import ConfigurationError

Layers: TypeAlias = dict[str, nn.Module]
"""Layers by name, in the order in which the network has them."""


def batch_norms(model: nn.Module, patterns: Iterable[str]) -> Layers:
    """Returns the batch norms with scales whose names match a pattern.

    Raises:
        ConfigurationError: If there is none.
    """
    norms = {name: module for name, module in model.named_modules() if isinstance(module, _BatchNorm) and module.affine}
    return _matching(norms, patterns, "batch norms with scales")


def weighted_layers(model: nn.Module, patterns: Iterable[str]) -> Layers:
    """Returns the convolutions and linear layers whose names match a pattern.

    Raises:
        ConfigurationError: If there is none.
    """
    found = {name: module for name, module in model.named_modules() if isinstance(module, (_ConvNd, nn.Linear))}
    return _matching(found, patterns, "convolutions or linear layers")


def channel_writers(model: nn.Module, patterns: Iterable[str]) -> Layers:
    """Returns the layers whose outputs are gated: batch norms where the network has some, convolutions elsewhere.

    Raises:
        ConfigurationError: If there is none.
    """
    if any(isinstance(module, _BatchNorm) and module.affine for module in model.modules()):
        return batch_norms(model, patterns)
    convolutions = {name: module for name, module in model.named_modules() if isinstance(module, _ConvNd)}
    found = {name: module for name, module in convolutions.items() if not module.transposed}
    return _matching(found, patterns, "batch norms or convolutions")


def channels_of(layer: nn.Module) -> int:
    """Returns how many channels a layer writes."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return len(weight)


def _matching(found: Mapping[str, nn.Module], patterns: Iterable[str], kind: str) -> Layers:
    patterns = tuple(patterns)
    layers = {name: module for name, module in found.items() if any(fnmatchcase(name, p) for p in patterns)}
    if not found:
        raise ConfigurationError(
            f"the penalty needs {kind}, and the network has none; choose another, such as l1, or leave it out"
        )
    if not layers:
        raise ConfigurationError(
            f"the penalty needs {kind} whose names match {', '.join(patterns)}, among {', '.join(list(found)[:5])}; "
            "correct its option 'layers'"
        )
    return layers


class ChannelFactors:
    """Multiplies the outputs of layers by a factor per channel, with forward hooks.

    A layer that is called several times has the same factors every time.
    """

    def __init__(self, layers: Layers, factor: Callable[[str, Tensor], Tensor]) -> None:
        """Takes the layers.

        Args:
            layers: By name.
            factor: Takes the name of a layer and its output `(N, C, ...)`, and returns the factors, `(C,)`.
        """
        self._layers, self._factor = layers, factor
        self._handles: list[RemovableHandle] = []

    def attach(self) -> None:
        """Starts multiplying."""
        for name, layer in self._layers.items():

            def scale(_: nn.Module, inputs: object, output: Tensor, name: str = name) -> Tensor:
                factors = self._factor(name, output).to(output.dtype)
                return output * factors.view(-1, *(1,) * (output.dim() - 2))

            self._handles.append(layer.register_forward_hook(scale))

    def detach(self) -> None:
        """Stops multiplying."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    @torch.no_grad()
    def fold(self, factors: Mapping[str, Tensor]) -> None:
        """Multiplies the layers' own parameters by factors `(C,)`, so that they write the same without hooks."""
        for name, layer in self._layers.items():
            for parameter in layer.parameters(recurse=False):
                shaped = factors[name].to(parameter).view(-1, *(1,) * (parameter.dim() - 1))
                # masked_fill in addition to the product, which alone would leave negative zeros.
                parameter.copy_((parameter * shaped).masked_fill(shaped == 0, 0.0))


def check_strength(name: str, strength: float) -> None:
    """Checks the strength of a penalty.

    Raises:
        ConfigurationError: If it is negative.
    """
    if strength < 0:
        raise ConfigurationError(f"{name}: strength must be at least 0, not {strength:g}")
