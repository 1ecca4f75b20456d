"""Shadows: which channel every element of an activation belongs to.

A shadow has the shape of its tensor and holds labels (see `units`). Operators that only move elements apply to the
shadow as they are, which is why reshapes, shuffles, window partitions and concatenations need no rules of their own.
Along most axes the labels repeat, so a shadow stores such an axis once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from amc.tracing.units import NEUTRAL, ChannelUnits, Labels


@dataclass(frozen=True)
class Shadow:
    """Labels of a tensor's elements.

    Attributes:
        core: Labels; an axis along which they repeat has size 1.
        shape: Shape of the tensor.
    """

    core: Tensor
    shape: tuple[int, ...]

    @staticmethod
    def neutral(shape: Sequence[int]) -> Shadow:
        """Returns the shadow of a tensor that belongs to no channel."""
        return Shadow.constant(NEUTRAL, shape)

    @staticmethod
    def constant(label: int, shape: Sequence[int]) -> Shadow:
        """Returns a shadow with one label for all elements."""
        return Shadow(torch.full([1] * len(shape), label, dtype=torch.int64), tuple(shape))

    @staticmethod
    def along(labels: Labels, axis: int, shape: Sequence[int]) -> Shadow:
        """Returns a shadow whose labels vary along one axis."""
        core_shape = [1] * len(shape)
        core_shape[axis] = shape[axis]
        return Shadow(torch.from_numpy(np.ascontiguousarray(labels)).reshape(core_shape), tuple(shape)).compacted()

    @property
    def is_neutral(self) -> bool:
        """Whether no element belongs to a channel."""
        return self.core.numel() == 1 and int(self.core.reshape(-1)[0]) == NEUTRAL

    @property
    def varying(self) -> tuple[int, ...]:
        """The axes along which the labels vary."""
        return tuple(axis for axis, size in enumerate(self.core.shape) if size > 1)

    def labels(self) -> Labels:
        """Returns all labels that occur, in any order, possibly repeated."""
        return self.core.numpy().ravel()

    def full(self) -> Tensor:
        """Returns the labels in the tensor's shape; repeated axes take no memory."""
        return self.core.expand(self.shape)

    def resolved(self, units: ChannelUnits) -> Shadow:
        """Returns the shadow with every label replaced by its class, and axes that became constant stored once."""
        return Shadow(torch.from_numpy(units.find(self.core.numpy())), self.shape).compacted()

    def compacted(self) -> Shadow:
        """Returns the shadow with axes along which the labels repeat stored once."""
        core = self.core
        for axis in range(core.dim()):
            if core.size(axis) > 1 and (core.stride(axis) == 0 or bool((core == core.narrow(axis, 0, 1)).all())):
                core = core.narrow(axis, 0, 1)
        return Shadow(core.contiguous(), self.shape)

    def with_shape(self, shape: Sequence[int]) -> Shadow:
        """Returns the same labels for a tensor whose repeated axes have other lengths."""
        return Shadow(self.core, tuple(shape))

    def vector(self, axis: int) -> Labels | int:
        """Returns the labels along an axis, or its length where they do not vary along it."""
        if self.core.size(axis) == 1:
            return self.shape[axis]
        index = [0] * self.core.dim()
        index[axis] = slice(None)  # type: ignore[call-overload]
        return self.core[tuple(index)].numpy()


def moved(shadow: Shadow, move: Callable[[Tensor], Tensor], units: ChannelUnits) -> Shadow:
    """Applies an operator that only moves elements."""
    return of_full(move(shadow.full()), units)


def of_full(labels: Tensor, units: ChannelUnits) -> Shadow:
    """Returns the shadow that a full tensor of labels describes."""
    return Shadow(labels, tuple(labels.shape)).compacted().resolved(units)


def merged_along(shadow: Shadow, axes: Sequence[int], units: ChannelUnits) -> Shadow:
    """Couples the labels along some axes, so that they no longer vary along them."""
    for axis in axes:
        if shadow.core.size(axis) == 1:
            continue
        leader = shadow.core.amax(axis, keepdim=True)
        units.union(shadow.core.numpy(), leader.numpy())
        shadow = Shadow(torch.from_numpy(units.find(shadow.core.numpy())).amax(axis, keepdim=True), shadow.shape)
    return shadow.resolved(units)
