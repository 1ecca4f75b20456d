"""Running networks with norms that ignore channels that are zero.

A norm over channels divides by how many there are, so that after a cut the rest is scaled by other statistics than in
the dense network. With sums in place of means, channels that are zero do not count, and a network that was cut can be
compared with the dense one whose channels are zero.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_MEANS = ("mean", "var", "std", "var_mean")


class PlainNorms(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Replaces statistics over axes by sums: of the values, or of their squares."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs an operator, or its replacement."""
        name, kwargs = func.overloadpacket.__name__, kwargs or {}
        if name == "native_layer_norm":
            return _layer_norm(*args)
        if name == "native_group_norm":
            return _group_norm(*args)
        if name in _MEANS and len(args) > 1 and args[1] is not None:
            return _sums(name, func(*args, **kwargs), args[0], args[1])
        return func(*args, **kwargs)


def _sums(name: str, outputs: Any, source: Tensor, axes: Any) -> Any:
    """Returns the replacement for means and variances over axes."""
    keepdim = _kept(outputs, source)
    totals, squares = (tensor.sum(axes, keepdim=keepdim) for tensor in (source, source.square()))
    if name == "mean":
        return totals
    return (squares, totals) if name == "var_mean" else squares.sqrt() if name == "std" else squares


def _kept(outputs: Any, source: Tensor) -> bool:
    output: Tensor = outputs[0] if isinstance(outputs, tuple) else outputs
    return output.dim() == source.dim()


def _layer_norm(source: Tensor, shape: list[int], weight: Tensor | None, bias: Tensor | None, eps: float) -> Any:
    axes = list(range(source.dim() - len(shape), source.dim()))
    scale = (source.square().sum(axes, keepdim=True) + eps).rsqrt()
    return _affine(source * scale, weight, bias), scale, scale


def _group_norm(
    source: Tensor, weight: Tensor | None, bias: Tensor | None, n: int, c: int, size: int, groups: int, eps: float
) -> Any:
    by_group = source.reshape(n, groups, -1)
    scale = (by_group.square().sum(2, keepdim=True) + eps).rsqrt()
    normed = (by_group * scale).reshape(source.shape)
    shape = (1, c) + (1,) * (source.dim() - 2)
    weight, bias = (None if tensor is None else tensor.reshape(shape) for tensor in (weight, bias))
    return _affine(normed, weight, bias), scale.reshape(n, groups), scale.reshape(n, groups)


def _affine(values: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    values = values if weight is None else values * weight
    return torch.clone(values if bias is None else values + bias)
