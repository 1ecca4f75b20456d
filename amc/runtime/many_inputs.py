"""Inputs of a network, many at once and of any structure, handled as a tensor of images is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from amc.errors import DataError


class Inputs:
    """A batch of inputs: a tuple of positional or a mapping of keyword arguments, whose tensors share their first axis.

    It offers the part of a tensor's interface that calibration needs: a length, slices, `flip(0)`, `to` and `device`.

    Attributes:
        value: The arguments.
    """

    def __init__(self, value: Any) -> None:
        """Takes the arguments.

        Raises:
            DataError: If there are no tensors, or their first axes differ.
        """
        self.value = value
        lengths = {len(leaf) for leaf in tree_leaves(value) if isinstance(leaf, Tensor) and leaf.dim()}
        if len(lengths) != 1:
            found = f"first axes of {sorted(lengths)}" if lengths else f"no tensor in a {type(value).__name__}"
            raise DataError(
                "calibration inputs must be tensors with one first axis, that of the inputs, alone or in a tuple or a "
                f"mapping; found {found}"
            )
        (self._length,) = lengths

    def __len__(self) -> int:
        """Returns the number of inputs."""
        return self._length

    def __getitem__(self, part: slice) -> Inputs:
        """Returns some of the inputs."""
        return self.map(lambda tensor: tensor[part])

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return next(leaf.device for leaf in tree_leaves(self.value) if isinstance(leaf, Tensor))

    def map(self, change: Callable[[Tensor], Tensor]) -> Inputs:
        """Returns inputs whose tensors with a first axis are changed."""
        return Inputs(
            tree_map(lambda item: change(item) if isinstance(item, Tensor) and item.dim() else item, self.value)
        )

    def flip(self, axis: int) -> Inputs:
        """Returns the inputs in reverse."""
        return self.map(lambda tensor: tensor.flip(axis))

    def to(self, device: torch.device) -> Inputs:
        """Returns the inputs on a device."""
        return Inputs(tree_map(lambda item: item.to(device) if isinstance(item, Tensor) else item, self.value))


def as_inputs(data: Any) -> Tensor | Inputs:
    """Makes calibration inputs of a tensor, a tuple, a mapping, or an iterable of batches of these.

    Raises:
        DataError: If there are none, or they do not fit together.
    """
    if isinstance(data, Tensor):
        return data
    if isinstance(data, Iterable) and not isinstance(data, tuple | dict):
        return _joined([as_inputs(batch) for batch in data])
    return Inputs(data)


def _joined(batches: list[Tensor | Inputs]) -> Tensor | Inputs:
    """Concatenates batches."""
    if not batches:
        raise DataError("the calibration inputs must hold at least one batch; there is none")
    tensors = [batch for batch in batches if isinstance(batch, Tensor)]
    if len(tensors) == len(batches):
        return torch.cat(tensors)
    values = [batch.value for batch in batches if isinstance(batch, Inputs)]
    if len(values) != len(batches):
        raise DataError("all batches of calibration inputs must have one form; some are tensors, others are not")
    return Inputs(tree_map(lambda *parts: torch.cat(parts) if isinstance(parts[0], Tensor) else parts[0], *values))


def parts_of(images: Tensor | Inputs, size: int) -> list[Any]:
    """Splits inputs into batches of a size."""
    return [images[first : first + size] for first in range(0, len(images), size)]
