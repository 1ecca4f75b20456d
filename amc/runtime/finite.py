"""Whether weights are numbers."""

from __future__ import annotations

from collections.abc import Container

import torch
from torch import Tensor

_STATISTICS = ("running_mean", "running_var")


def all_finite(tensor: Tensor) -> bool:
    """Returns whether no element is NaN or infinite.

    A finite sum proves it, and costs far less than checking every element; finite elements may still have an infinite
    sum.
    """
    values = tensor.detach()
    if values.element_size() == 1:  # PyTorch sums no floats of eight bits
        return bool(torch.isfinite(values).all())
    return bool(torch.isfinite(values.sum())) or bool(torch.isfinite(values).all())


def holds_numbers(name: str, tensor: Tensor, buffers: Container[str]) -> bool:
    """Returns whether a tensor of a network can be computed with.

    Buffers may hold infinity, as bounds and attention masks do, but not those that are the statistics of a norm; NaN is
    no number anywhere.

    Args:
        name: Its name in the network.
        tensor: The tensor.
        buffers: The names of the network's buffers.
    """
    if not tensor.is_floating_point() or all_finite(tensor):
        return True
    may_be_infinite = name in buffers and name.rpartition(".")[2] not in _STATISTICS
    return may_be_infinite and not bool(torch.isnan(tensor).any())
