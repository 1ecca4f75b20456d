"""Tensors that share memory: which they are, and where the channels of one lie in another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from amc.runtime.call import tensors_in
from amc.runtime.memory_key import memory_key
from amc.tracing.units import Labels


def memory_of(value: Any) -> frozenset[int]:
    """Returns keys that identify the memory of tensors; views of each other share a key."""
    return frozenset(memory_key(tensor) for tensor in tensors_in(value))


class Views:
    """The tensors that a run has met, by their memory: the caller keeps them alive, so that no key is reused."""

    def __init__(self, kept: Mapping[str, Tensor]) -> None:
        """Starts empty.

        Args:
            kept: The parameters and buffers of the network, by name.
        """
        self._kept = {memory_key(tensor): name for name, tensor in kept.items()}
        self._met: dict[int, dict[int, Tensor]] = {}

    def meet(self, tensors: Iterable[Tensor]) -> None:
        """Notes tensors that an operator reads or returns."""
        for tensor in tensors:
            self._met.setdefault(memory_key(tensor), {}).setdefault(id(tensor), tensor)

    def of(self, tensor: Tensor) -> list[Tensor]:
        """Returns all that share memory with a tensor, itself too; first the one that was there before its views."""
        return list(self._met.get(memory_key(tensor), {id(tensor): tensor}).values())

    def keeper(self, tensor: Tensor) -> str | None:
        """Returns the parameter or buffer whose memory a tensor shows, or None."""
        return self._kept.get(memory_key(tensor))

    def forget(self) -> None:
        """Releases the tensors of a finished run."""
        self._met.clear()


@dataclass(frozen=True)
class Place:
    """Which positions on an axis of a tensor a view of it shows.

    Attributes:
        axes: The view's axes that run along these positions, rising; none if it shows one position, two where a view
            splits the axis.
        positions: The positions, one axis for each of these.
    """

    axes: tuple[int, ...]
    positions: Labels

    @property
    def bounds(self) -> tuple[int, int]:
        """Where the positions start and end."""
        return int(self.positions.min()), int(self.positions.max()) + 1


def place_in(whole: Tensor, axis: int, view: Tensor) -> Place | None:
    """Returns which positions on an axis of a tensor a view shows; None if they differ from place to place.

    Args:
        whole: The tensor.
        axis: Its axis.
        view: Something that shares its memory.
    """
    inner, length = whole.stride(axis), whole.shape[axis]
    offset = view.storage_offset() - whole.storage_offset()
    if not _is_dense(whole) or view.dtype != whole.dtype or offset < 0 or length < 2 or not view.numel():
        return None
    within, positions, axes = offset % inner, np.array(offset // inner % length), []
    for each, (size, stride) in enumerate(zip(view.shape, view.stride(), strict=True)):
        if size == 1 or stride % (inner * length) == 0:
            continue
        if stride < inner:
            within += stride * (size - 1)
        elif stride % inner == 0:
            positions = np.add.outer(positions, np.arange(size) * (stride // inner))
            axes.append(each)
        else:
            return None
    return Place(tuple(axes), positions) if within < inner and positions.max() < length else None


def _is_dense(tensor: Tensor) -> bool:
    """Returns whether every element has a place of its own, and there are none between."""
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size != 1:
            if stride != expected:
                return False
            expected *= size
    return True
