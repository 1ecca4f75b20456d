"""Batch norms over the whole batch, of which every process has a part."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from inspect import signature
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from amc.runtime.collectives import Collectives

_SIGNATURE = signature(functional.batch_norm)


class SynchronisedBatchNorms(TorchFunctionMode):
    """Within the context, batch norms in training mode take the statistics of all processes' parts of the batch.

    What is replaced is `torch.nn.functional.batch_norm`, so that modules stay as they are, those of other packages that
    bring an activation along included. `torch.nn.SyncBatchNorm` computes the same, on accelerators only.
    """

    def __init__(self, collectives: Collectives) -> None:
        """Takes what exchanges the statistics."""
        super().__init__()
        self._collectives = collectives

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Calls a function of PyTorch, or what stands in its place."""
        named = dict(kwargs or {})
        if function is not functional.batch_norm:
            return function(*args, **named)
        bound = _SIGNATURE.bind(*args, **named)
        bound.apply_defaults()
        given = bound.arguments
        if not given["training"]:
            return function(*args, **named)
        return self._batch_norm(**given)

    def _batch_norm(
        self,
        input: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None,
        bias: Tensor | None,
        training: bool,
        momentum: float,
        eps: float,
    ) -> Tensor:
        mean, variance, count = _statistics(input, self._collectives)
        with torch.no_grad():
            if running_mean is not None:
                running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            if running_var is not None:
                unbiased = variance * (count / max(count - 1, 1))
                running_var.lerp_(unbiased.to(running_var.dtype), momentum)
        result: Tensor = _BatchNorm.apply(input, weight, bias, mean, variance, count, eps, self._collectives)
        return result


@torch.no_grad()
def _statistics(images: Tensor, collectives: Collectives) -> tuple[Tensor, Tensor, int]:
    """Returns mean and variance of every channel over all processes, `(C,)`, and how many numbers a channel has."""
    # The kernel of the batch norm itself: ten times as fast as `var_mean` where channels come last.
    mean, variance = torch.batch_norm_update_stats(images.float(), None, None, 0.0)
    every = collectives.gathered(torch.stack([mean, variance]))
    means, variances = every[:, 0], every[:, 1]
    whole = means.mean(0)
    # Parts are of one size: the variance of the whole is the mean of theirs and of their means' squared distances.
    count = images.numel() // images.shape[1] * collectives.size
    return whole, (variances + (means - whole).square()).mean(0), count


class _BatchNorm(torch.autograd.Function):
    """Normalises by given statistics of the whole batch, and differentiates through them (Ioffe and Szegedy 2015)."""

    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        variance: Tensor,
        count: int,
        eps: float,
        collectives: Collectives,
    ) -> Tensor:
        ctx.save_for_backward(images, weight, mean, variance)
        ctx.count, ctx.eps, ctx.collectives, ctx.shifts = count, eps, collectives, bias is not None
        return functional.batch_norm(images, mean, variance, weight, bias, training=False, eps=eps)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        images, weight, mean, variance = ctx.saved_tensors
        # In evaluation mode the kernel sums over this process's images, and leaves the statistics' part out.
        _, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradients[0], images, weight, mean, variance, None, None, False, ctx.eps, [False, True, True]
        )
        sums = ctx.collectives.total(torch.stack([of_bias.float(), of_weight.float()])) / ctx.count
        inverse = (variance + ctx.eps).rsqrt()
        factor = inverse if weight is None else inverse * weight.float()
        slope = -factor * inverse * sums[1]
        offset = -factor * sums[0] - slope * mean
        lines = [line.view(1, -1, *(1,) * (images.dim() - 2)) for line in (offset, slope, factor)]
        of_images = torch.addcmul(lines[0], images.float(), lines[1]).addcmul_(gradients[0].float(), lines[2])
        of_weight = None if weight is None else of_weight.to(weight.dtype)
        shifts = of_bias if ctx.shifts else None
        return of_images.to(images.dtype), of_weight, shifts, None, None, None, None, None
