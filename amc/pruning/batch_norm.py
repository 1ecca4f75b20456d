"""What a batch norm does in evaluation mode: one scale and one shift per channel."""

from __future__ import annotations

from typing import TypeAlias, TypeGuard

import torch
from torch import Tensor, nn

BatchNorm: TypeAlias = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def is_batch_norm(module: nn.Module | None) -> TypeGuard[BatchNorm]:
    """Returns whether a module is a batch norm with running statistics; it may do more, such as an activation."""
    return isinstance(module, BATCH_NORMS) and module.running_mean is not None and module.running_var is not None


def is_affine(norm: nn.Module) -> bool:
    """Returns whether a module is only a batch norm with running statistics: some also apply an activation."""
    if not is_batch_norm(norm):
        return False
    children = list(norm.children())
    extended = type(norm).forward is not nn.modules.batchnorm._BatchNorm.forward
    return not extended or (bool(children) and all(type(child) is nn.Identity for child in children))


def scale_of(variance: Tensor, gain: Tensor | None, eps: float) -> Tensor:
    """Returns the factor `gain / sqrt(variance + eps)` of each channel, `(C,)`.

    Args:
        variance: Running variance, `(C,)`.
        gain: The norm's weight, `(C,)`, or None.
        eps: The norm's epsilon.
    """
    scale = (variance + eps).rsqrt()
    return scale if gain is None else scale * gain


def affine_of(norm: BatchNorm) -> tuple[Tensor, Tensor]:
    """Returns the scale and the shift that a batch norm applies in evaluation mode, `(C,)` each."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = scale_of(norm.running_var, norm.weight, norm.eps)
    shift = -norm.running_mean * scale
    return scale, shift if norm.bias is None else shift + norm.bias


def before_norm(norm: nn.Module | None, values: Tensor) -> Tensor:
    """Returns what a batch norm turns into these values in evaluation mode, channels last; the values without one.

    A channel that the batch norm nearly silences gives zero: anything else would grow without bound.
    """
    if not is_batch_norm(norm):
        return values
    scale, shift = affine_of(norm)
    return (values - shift) / torch.where(_nearly_silent(scale), torch.inf, scale)


def sign_of(norm: nn.Module | None, values: Tensor) -> Tensor:
    """Returns the signs of the gains of a batch norm, `(C,)`, 0 where it nearly silences a channel; ones without one.

    Args:
        norm: The batch norm, or None.
        values: Values of the channels, `(..., C)`.
    """
    if not is_batch_norm(norm):
        return values.new_ones(values.shape[-1])
    scale, _ = affine_of(norm)
    return torch.where(_nearly_silent(scale), 0, scale.sign())


def _nearly_silent(scale: Tensor) -> Tensor:
    return scale.abs() < 1e-3 * scale.abs().max()


def output_scale(norm: nn.Module | None, outputs: int) -> Tensor:
    """Returns the weight of an error in each output of a layer behind its batch norm: the absolute scale, `(outputs,)`.

    Args:
        norm: The batch norm behind the layer, or None.
        outputs: Channels of the layer.

    Returns:
        Detached; ones where no batch norm with a gain follows.
    """
    if not is_batch_norm(norm) or norm.weight is None:
        return torch.ones(outputs)
    assert norm.running_var is not None
    return scale_of(norm.running_var, norm.weight, norm.eps).detach().abs()
