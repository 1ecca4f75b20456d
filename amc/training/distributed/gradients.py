"""Gradients that several processes have of their parts of a batch, as one gradient of the whole batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from amc.runtime.collectives import Collectives


@torch.no_grad()
def average_gradients(tensors: Sequence[Tensor], loss: Tensor, collectives: Collectives) -> Tensor:
    """Replaces the gradients of tensors by their means over the processes.

    One exchange for all of them and the loss. A tensor without a gradient counts as zero where another process has one,
    and stays without where none has: a skipped block gets no weight decay then, as in one process.

    Args:
        tensors: What learns, in the same order everywhere.
        loss: The loss of this process's part of the batch, a scalar.
        collectives: Exchanges tensors.

    Returns:
        The mean loss, a scalar.
    """
    if collectives.size == 1:
        return loss
    gradients = [tensor.grad for tensor in tensors]
    parts = [torch.zeros_like(t) if g is None else g for t, g in zip(tensors, gradients, strict=True)]
    present = loss.new_tensor([gradient is not None for gradient in gradients], dtype=torch.float32)
    flat = [part.float().reshape(-1) for part in parts]
    mean = collectives.average(torch.cat([*flat, present, loss.float().reshape(1)]))
    *means, anywhere, mean_loss = torch.split(mean, [*(part.numel() for part in flat), len(tensors), 1])
    # Looking at the flags waits for the device: only a process that lacks a gradient has to.
    wanted = anywhere.tolist() if any(gradient is None for gradient in gradients) else [1.0] * len(tensors)
    for tensor, part, value, share in zip(tensors, parts, means, wanted, strict=True):
        if share > 0:
            tensor.grad = part.copy_(value.view(part.shape))
    return mean_loss.squeeze(0)
