"""Inputs of any batch size and with fresh values, made from one example."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_iter, tree_map

from amc.errors import ConfigurationError


def tensors_in(value: Any) -> list[Tensor]:
    """Returns the tensors of a nested input or output, in order."""
    return [item for item in tree_iter(value) if isinstance(item, Tensor)]


def batch_length(example: Any) -> int:
    """Returns the length of the batch axis: axis 0 of the first tensor that has axes.

    Raises:
        ConfigurationError: If there is no such tensor.
    """
    lengths = [tensor.shape[0] for tensor in tensors_in(example) if tensor.dim() > 0]
    if not lengths:
        raise ConfigurationError("an example input must hold a tensor with a batch axis, such as (1, 3, 32, 32)")
    return lengths[0]


def is_batched(tensor: Tensor, length: int) -> bool:
    """Returns whether a tensor of an example has the batch axis, whose length is `length`."""
    return tensor.dim() > 0 and tensor.shape[0] == length


def with_batch(example: Any, size: int) -> Any:
    """Returns the example with `size` rows in the batch axis, repeated or cut."""
    length = batch_length(example)

    def resize(item: Any) -> Any:
        if not isinstance(item, Tensor) or not is_batched(item, length):
            return item
        return item[torch.arange(size, device=item.device) % length].contiguous()

    return tree_map(resize, example)


def fresh_input(example: Any, size: int, generator: torch.Generator) -> Any:
    """Returns an input like the example, with new values and `size` rows.

    Real numbers are drawn from the normal distribution with the example's mean and deviation, integers from the
    example's range; truth values stay, as a random mask may leave nothing.

    Args:
        example: A tensor, or a nested tuple or mapping.
        size: Length of the batch axis.
        generator: Draws the values, on the CPU.
    """

    def redraw(item: Any) -> Any:
        if not isinstance(item, Tensor) or item.dtype == torch.bool or not item.numel():
            return item
        if item.is_floating_point():
            deviation, mean = torch.std_mean(item.float(), correction=0)
            values = torch.randn(item.shape, generator=generator) * (deviation.item() or 1.0) + mean.item()
        else:
            values = torch.randint(int(item.min()), int(item.max()) + 1, item.shape, generator=generator)
        return values.to(item.device, item.dtype)

    return tree_map(redraw, with_batch(example, size))
