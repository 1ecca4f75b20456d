"""Which axes of a layer's weight are its outputs, which are its inputs, and which are places of a kernel."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from torch import Tensor


@dataclass(frozen=True)
class WeightAxes:
    """What lies along the axes of a weight.

    Linear layers and convolutions have their outputs first, transposed convolutions and `x @ w` their inputs.

    Attributes:
        outputs: Axes of the outputs, the outermost first.
        inputs: Axes of the inputs; none where a network uses the weight in two ways. All others are places of a kernel.
        groups: Groups of the first axis, if the inputs lie along it and each output reads one group of them.
    """

    outputs: tuple[int, ...] = (0,)
    inputs: tuple[int, ...] = (1,)
    groups: int = 1

    @property
    def in_two_ways(self) -> WeightAxes:
        """Those of a weight that serves in this way and in another one."""
        return WeightAxes(tuple(sorted((*self.outputs, *self.inputs))), ())

    def matrix_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Returns the shape `(outputs, inputs of an output, *kernel)` of a weight of some shape."""
        outputs, inputs = (prod(shape[axis] for axis in axes) for axes in (self.outputs, self.inputs))
        return outputs * self.groups, inputs // self.groups, *(shape[axis] for axis in self._kernel(len(shape)))

    def to_matrix(self, tensor: Tensor) -> Tensor:
        """Rearranges a tensor of the weight's shape as `(outputs, inputs of an output, *kernel)`."""
        split = tensor.reshape(self.groups, -1, *tensor.shape[1:])
        return split.permute(self._order(tensor.dim())).reshape(self.matrix_shape(tuple(tensor.shape)))

    def from_matrix(self, matrix: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Returns a tensor of the weight's shape from one that `to_matrix` has rearranged."""
        order = self._order(len(shape))
        split = (self.groups, shape[0] // self.groups, *shape[1:])
        back = [order.index(axis) for axis in range(len(order))]
        return matrix.reshape([split[axis] for axis in order]).permute(back).reshape(shape).contiguous()

    def _order(self, axes: int) -> list[int]:
        """Returns in which order the axes of a weight, with its groups as one more before them, make up the matrix."""
        return [0, *(axis + 1 for axis in (*self.outputs, *self.inputs, *self._kernel(axes)))]

    def _kernel(self, axes: int) -> tuple[int, ...]:
        return tuple(axis for axis in range(axes) if axis not in self.outputs and axis not in self.inputs)


OUTPUTS_FIRST = WeightAxes()
"""Those of linear layers and convolutions."""


def axes_of_product(axes: int, inputs: tuple[int, ...]) -> WeightAxes:
    """Returns what lies along the axes of a weight that has no kernel.

    Args:
        axes: How many axes it has.
        inputs: Those that are summed over.
    """
    return WeightAxes(tuple(axis for axis in range(axes) if axis not in inputs), tuple(sorted(inputs)))


def axes_of_convolution(view: tuple[int, ...], *, transposed: bool = False, groups: int = 1) -> WeightAxes:
    """Returns what lies along the axes of the weight of a convolution.

    Args:
        view: For every axis of the weight as the operator takes it the axis of the parameter.
        transposed: Whether the operator takes the inputs first.
        groups: Groups of the convolution.
    """
    return WeightAxes((view[1],), (view[0],), groups) if transposed else WeightAxes((view[0],), (view[1],))
