"""Matrix products of an activation and a parameter that was rearranged: how `einsum` multiplies by a weight.

`einsum("bnc,chd->bnhd", x, w)` turns the weight into a matrix `(1, c, h d)`. An axis of that matrix may hold several
axes of the parameter; channels lie along one of them, as along one axis of an activation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from amc.structure.weight_axes import axes_of_product
from amc.tracing.derived import pieces_of
from amc.tracing.entries import Factor, LayerRecord, ParameterView, Pieces
from amc.tracing.layer_records import pair_of, record_layer
from amc.tracing.record import Trace
from amc.tracing.settling import settled
from amc.tracing.shadow import Shadow
from amc.tracing.units import Labels


@dataclass(frozen=True)
class Weight:
    """A parameter as an operand of a matrix product.

    Attributes:
        name: Its name.
        axes: What lies along every axis of the operand.
        first: Whether it is the left operand.
    """

    name: str
    axes: tuple[Pieces, ...]
    first: bool

    @property
    def batch(self) -> Pieces:
        """What lies along the axis over which the product is repeated."""
        return self.axes[0] if len(self.axes) == 3 else ()

    @property
    def read(self) -> Pieces:
        """What lies along the axis that is summed over."""
        return self.axes[-1 if self.first else -2]

    @property
    def written(self) -> Pieces:
        """What lies along the axis that the result has from the parameter."""
        return self.axes[-2 if self.first else -1]


def weighted(
    trace: Trace, operands: Sequence[Tensor], outputs: Tensor, repeated: tuple[Tensor, Tensor] | None = None
) -> bool:
    """Treats a product with a parameter as a layer; False if not exactly one of the operands is a parameter.

    Args:
        trace: What is known so far.
        operands: `(b, i, k)` and `(b, k, j)`, or both without `b`.
        outputs: The product.
        repeated: The operands of a `matmul` of whose repetitions fvcore counts one.
    """
    found = [pieces_of(trace, operand) for operand in operands]
    if (found[0] is None) == (found[1] is None):
        return False
    first = found[0] is not None
    name, axes = next(arranged for arranged in found if arranged is not None)
    weight = Weight(name, axes, first)
    source, costs = operands[1 if first else 0], len(trace.costs)
    summed, row = source.dim() - (2 if first else 1), source.dim() - (1 if first else 2)
    shadow = trace.shadow(source)
    if source.dim() == 3:
        _tie(trace, weight, weight.batch, shadow.vector(0), "follow")
    read = _tie(trace, weight, weight.read, shadow.vector(summed), "read")
    shadow = shadow.resolved(trace.units)
    shape, written = tuple(outputs.shape), _written(trace, weight, shadow, summed)
    if not isinstance(written, int):
        trace.set_shadow(outputs, Shadow.along(written, len(shape) - (2 if first else 1), shape))
    else:
        stays = shadow if set(shadow.varying) - {summed} else Shadow.neutral(shape)
        trace.set_shadow(outputs, stays.with_shape(shape))
    trace.cost(1, *_repetitions(trace, weight, shadow, repeated), shadow.vector(row), read, written)
    record = LayerRecord(
        weight=weight.name,
        kind="linear",
        in_labels=read,
        out_labels=written,
        input_size=pair_of([source.shape[row]]),
        in_channels=source.shape[summed],
        out_channels=_size(weight.written),
        costs=[*range(costs, len(trace.costs))],
        axes=axes_of_product(trace.tensors[name].dim(), tuple(axis for axis, _ in weight.read if axis is not None)),
    )
    record_layer(trace, record, outputs)
    return True


def _tie(trace: Trace, weight: Weight, pieces: Pieces, labels: Factor, role: str) -> Factor:
    """Makes the parameter follow the labels of an activation along an axis; returns these, coupled where necessary."""
    if isinstance(labels, int) or not pieces:
        return labels
    grid = torch.from_numpy(labels.copy()).reshape(1, 1, *_sizes(pieces))
    return _along_one_axis(trace, weight, pieces, Shadow(grid, tuple(grid.shape)), role)


def _written(trace: Trace, weight: Weight, source: Shadow, summed: int) -> Factor:
    """Returns the labels of the channels that the parameter writes.

    Where the activation has channels on another axis than the one that is summed over (heads, rows), the result has
    these, and the parameter's own axis stays.
    """
    pieces = weight.written
    if not pieces or set(source.varying) - {summed}:
        return _size(pieces)
    grid = torch.from_numpy(trace.units.new(_size(pieces))).reshape(1, 1, *_sizes(pieces))
    return _along_one_axis(trace, weight, pieces, Shadow(grid, tuple(grid.shape)), "write")


def _along_one_axis(trace: Trace, weight: Weight, pieces: Pieces, grid: Shadow, role: str) -> Labels:
    """Couples labels until they vary along one piece, which takes them over; returns them for the whole axis."""
    shadow = settled(trace, grid.compacted())
    for place in shadow.varying:
        axis, labels = pieces[place - 2][0], shadow.vector(place)
        if axis is not None:
            shape = trace.tensors[weight.name].shape
            view = ParameterView(weight.name, tuple(range(len(shape))), (0,) * len(shape))
            trace.tie(view, axis, labels, role)
    return trace.units.find(shadow.full().reshape(-1).numpy())


def _repetitions(trace: Trace, weight: Weight, shadow: Shadow, repeated: tuple[Tensor, Tensor] | None) -> list[Factor]:
    """Returns how often the product of two matrices is counted."""
    if len(weight.axes) < 3:
        return []
    if repeated is None:
        return [shadow.vector(0)]
    if weight.first:
        return [size for axis, size in weight.batch if axis is not None]
    left = trace.shadow(repeated[0])
    return [left.vector(axis) for axis in range(len(left.shape) - 2)]


def _sizes(pieces: Pieces) -> list[int]:
    return [size for _, size in pieces]


def _size(pieces: Pieces) -> int:
    return prod(_sizes(pieces))
