"""What a trace records about single parameters, operators and layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np
import numpy.typing as npt
from torch import Tensor

from amc.structure.weight_axes import OUTPUTS_FIRST, WeightAxes
from amc.tracing.units import Labels

Factor = Labels | int
"""An axis in a cost: its labels where they vary along it, else its length."""


def dense_flops(coefficient: int, factors: Sequence[Factor]) -> int:
    """Returns the value of an entry of `Trace.costs` at the dense widths."""
    return coefficient * prod(factor if isinstance(factor, int) else len(factor) for factor in factors)


@dataclass(frozen=True)
class ParameterView:
    """A parameter or buffer seen through transpositions and slices.

    Attributes:
        name: Its name in the network.
        axes: For every axis of the view, the axis of the parameter.
        offsets: For every axis of the view, where it starts.
    """

    name: str
    axes: tuple[int, ...]
    offsets: tuple[int, ...]

    def shown(self, whole: Tensor, shape: Sequence[int]) -> Tensor:
        """Returns the part of a tensor that the view shows.

        Args:
            whole: A tensor of the parameter's shape.
            shape: The shape of the view.
        """
        part = whole.permute(self.axes)
        for axis, (offset, length) in enumerate(zip(self.offsets, shape, strict=True)):
            part = part.narrow(axis, offset, length)
        return part


Pieces = tuple[tuple[int | None, int], ...]
"""What lies along one axis of a rearranged parameter: its axes with their lengths, the outermost first. None stands for
an axis that repeats the parameter; there are none of length one."""


@dataclass(frozen=True)
class Derived:
    """Where a tensor that was computed from parameters alone comes from; see `amc.tracing.derived`.

    Attributes:
        names: The parameters and buffers.
        costs: Places in `Trace.costs` of what the computation costs.
        axes: Where its axes come from, if it is one parameter that was only rearranged.
    """

    names: frozenset[str]
    costs: tuple[int, ...]
    axes: tuple[Pieces, ...] | None = None


@dataclass(frozen=True)
class Step:
    """What an operator depended on, and what depends on it; see `amc.tracing.liveness`.

    Attributes:
        reads: The memory of its inputs.
        writes: The memory of its outputs, and of the inputs that it changed.
        costs: Places in `Trace.costs` of what it cost.
    """

    reads: frozenset[int]
    writes: frozenset[int]
    costs: range


@dataclass
class Canvas:
    """A tensor that gets its channels by being written into; see `amc.tracing.canvas`.

    Attributes:
        lengths: Where modules or their code had its sizes when it was made, by size: module and name.
        bounds: Where they had the bounds of its slices.
        axis: The axis of its channels.
        written: Which of them have been written; None where nothing was written so far.
        borders: Where the parts begin and end that were written.
        is_blank: Whether nothing was written that a layer has computed.
    """

    lengths: dict[int, list[tuple[str, str]]]
    bounds: dict[int, list[tuple[str, str]]] = field(default_factory=dict)
    axis: int = 0
    written: npt.NDArray[np.bool_] | None = None
    borders: set[int] = field(default_factory=set)
    is_blank: bool = True


@dataclass
class LayerRecord:
    """What was observed of a layer with a weight, before groups are known; see `LayerSpec`.

    Attributes:
        costs: Places in `Trace.costs` of what it costs.
        keeps_zeros: Whether zeros of the weight are zeros of what it multiplies by.
        axes: Which axes of the weight are inputs, and which are places of the kernel.
    """

    weight: str
    kind: str
    in_labels: Factor
    out_labels: Factor
    input_size: tuple[int, int]
    in_channels: int
    out_channels: int
    kernel_size: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    costs: list[int] = field(default_factory=list)
    calls: int = 1
    batch_norm: str | None = None
    keeps_zeros: bool = True
    axes: WeightAxes = OUTPUTS_FIRST


@dataclass
class Producer:
    """Which layer an activation comes from, how many operators read it, and the batch norm among them."""

    layer: LayerRecord
    uses: int = 0
    batch_norm: str | None = None
