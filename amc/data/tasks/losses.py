"""Losses by name. Each takes outputs and targets as `TaskType.align` returns them, and gives a scalar."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from torch import Tensor
from torch.nn import functional

from amc.utils.registry import Registry

Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Takes outputs and targets of a batch; returns the mean loss, a scalar."""

IGNORED = -100
"""The class of what is not to be counted, as PyTorch has it."""


def cross_entropy(outputs: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Returns the mean cross-entropy, in nats.

    Args:
        outputs: `(N, K)` or `(N, K, H, W)`.
        targets: Classes `(N,)` or `(N, H, W)`, those of -100 not counted; or shares of classes, shaped as the outputs.
        label_smoothing: Share of the target that is spread over all classes.

    Returns:
        The mean over what counts. Where nothing does, as in a batch of unlabelled masks, it is zero, and so are its
        gradients: PyTorch's own mean would be NaN, and end a training.
    """
    if not targets.is_floating_point() and not bool((targets != IGNORED).any()):
        return outputs.sum() * 0.0
    return functional.cross_entropy(outputs, targets, ignore_index=IGNORED, label_smoothing=label_smoothing)


LOSSES: Registry[Loss] = Registry("loss", "amc.losses")
LOSSES.register("cross_entropy", cross_entropy, "cross-entropy with classes, or with shares of classes")
LOSSES.register("bce", functional.binary_cross_entropy_with_logits, "binary cross-entropy of every output by itself")
LOSSES.register("mse", functional.mse_loss, "mean squared error")
LOSSES.register("mae", functional.l1_loss, "mean absolute error")
LOSSES.register("smooth_l1", functional.smooth_l1_loss, "squared error below 1, absolute error above")
