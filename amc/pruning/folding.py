"""Folding batch norms into the layers ahead of them.

In evaluation mode a batch norm is a scale and a shift of each output channel, so `bn(conv(x))` equals one convolution
with scaled filters and a bias. Scaling an output channel and slicing channels commute, so a candidate's tensors may be
sliced first and folded afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from amc.pruning.batch_norm import is_affine, is_batch_norm, scale_of
from amc.pruning.regression.patches import is_reader
from amc.runtime.call import named_tensors
from amc.structure import LayerSpec


@dataclass(frozen=True)
class Fold:
    """A layer and the batch norm that is folded into it.

    Attributes:
        layer: Name of the layer.
        norm: Name of the batch norm.
        eps: The batch norm's epsilon.
    """

    layer: str
    norm: str
    eps: float

    @property
    def weight(self) -> str:
        """Name of the layer's weight."""
        return f"{self.layer}.weight"

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the tensors that the folded weight and bias are made of, where the network has them."""
        norm = self.norm
        names = (f"{norm}.weight", f"{norm}.bias", f"{norm}.running_mean", f"{norm}.running_var")
        return (self.weight, f"{self.layer}.bias", *names)

    def fold(self, tensor: Callable[[str], Tensor | None]) -> tuple[Tensor, Tensor]:
        """Computes the folded weight and bias.

        Args:
            tensor: Looks up one of `sources`; None where the network has no such tensor.
        """
        weight, bias, gain, shift, mean, variance = (tensor(name) for name in self.sources)
        assert weight is not None
        assert mean is not None
        assert variance is not None
        scale = scale_of(variance, gain, self.eps)
        offset = -mean if bias is None else bias - mean
        offset = offset * scale
        folded = weight * scale.reshape(-1, *[1] * (weight.dim() - 1))
        return folded, offset if shift is None else offset + shift


def find_folds(model: nn.Module, layers: tuple[LayerSpec, ...]) -> dict[str, Fold]:
    """Returns what can be folded, by the layer's name."""
    folds = {}
    for layer in layers:
        if layer.batch_norm is None or layer.calls != 1 or layer.weight != f"{layer.name}.weight":
            continue
        module, norm = model.get_submodule(layer.name), model.get_submodule(layer.batch_norm)
        if is_reader(module) and is_batch_norm(norm) and is_affine(norm):
            folds[layer.name] = Fold(layer.name, layer.batch_norm, norm.eps)
    return folds


def fold_in_place(model: nn.Module, folds: Mapping[str, Fold]) -> None:
    """Replaces batch norms by identities and gives the layers ahead of them the folded weights and biases."""
    state = named_tensors(model)
    for fold in folds.values():
        module = model.get_submodule(fold.layer)
        with torch.no_grad():
            weight, bias = fold.fold(state.get)
        module.weight = nn.Parameter(weight)
        module.bias = nn.Parameter(bias)
        parent, _, leaf = fold.norm.rpartition(".")
        setattr(model.get_submodule(parent), leaf, nn.Identity())
