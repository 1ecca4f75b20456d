"""The parts of a tensor that go with each channel."""

from __future__ import annotations

import torch
from torch import Tensor

from amc.structure import TensorCut


def channel_slices(tensor: Tensor, cut: TensorCut) -> Tensor:
    """Returns the values of a tensor that go with each channel, side by side.

    Args:
        tensor: The tensor, or anything of its shape, such as its gradient.
        cut: How the channel group cuts it.

    Returns:
        `(C, values a channel)`, float64, on the CPU.
    """
    by_position = tensor.detach().double().movedim(cut.axis, 0).reshape(tensor.shape[cut.axis], -1).cpu()
    return by_position[torch.tensor(cut.positions)].flatten(1)
