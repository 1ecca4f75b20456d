"""The most memory that a network's activations take at once, as a function of the widths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from amc.costs.cost_model import CostTracker
from amc.costs.polynomial_cost import PolynomialCost
from amc.costs.solved_extents import ExtentSolver
from amc.errors import StructureError
from amc.runtime.call import call, inference, named_tensors, tensors_in
from amc.runtime.memory_key import memory_key
from amc.structure import CostTerm, Extent

NetworkOf = Callable[[Sequence[int]], nn.Module]
"""Makes the network in which decision i keeps `widths[i]` units."""

_SPARE = 8
"""Networks beyond one per decision, from which the lengths of axes are solved."""


@dataclass
class _Activation:
    """A piece of memory: the shape that it was made with, bytes of an element, and the operators that use it."""

    shape: tuple[int, ...]
    itemsize: int
    first: int
    last: int

    @property
    def size(self) -> int:
        """Bytes."""
        return prod(self.shape) * self.itemsize


@dataclass
class _Run:
    """The activations of one forward pass, in order, and the number of its operators."""

    activations: list[_Activation] = field(default_factory=list)
    operators: list[str] = field(default_factory=list)

    def alive(self, operator: int) -> list[int]:
        """Returns which activations an operator needs or makes, or a later one still needs."""
        return [n for n, made in enumerate(self.activations) if made.first <= operator <= made.last]


class _Memory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes which memory each operator reads and makes, below autograd; views share that of their base."""

    def __init__(self, weights: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.run = _Run()
        self._places: dict[int, int] = {}
        self._weights = {memory_key(tensor) for tensor in weights}
        self._held: list[Tensor] = []  # so that no memory is reused

    def use(self, value: Any, operator: int) -> None:
        """Notes the tensors in a value as used by an operator."""
        for tensor in tensors_in(value):
            place = memory_key(tensor)
            if place in self._weights:
                continue
            if place not in self._places:
                self._places[place] = len(self.run.activations)
                made = _Activation(tuple(tensor.shape), tensor.element_size(), operator, operator)
                self.run.activations.append(made)
                self._held.append(tensor)
            self.run.activations[self._places[place]].last = operator

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        operator = len(self.run.operators)
        self.run.operators.append(str(func))
        self.use([list(args), kwargs or {}], operator)
        result = func(*args, **(kwargs or {}))
        self.use(result, operator)
        return result


def peak_memory(model: nn.Module, example: Any) -> int:
    """Counts the largest number of bytes of activations that are alive at once in one forward pass.

    An activation lives from the operator that makes it to the last that reads it; inputs live from the start, outputs
    to the end, views are part of what they view. Neither an operator's internal memory nor weights are counted.

    Args:
        model: The network.
        example: Its input, whose batch counts.
    """
    run = _run_of(model, example)
    return max(
        sum(run.activations[number].size for number in run.alive(operator)) for operator in range(len(run.operators))
    )


def peak_memory_cost(network_of: NetworkOf, example: Any, sizes: Sequence[int]) -> PeakCost:
    """Returns the peak memory as a function of the widths, exact for every allocation.

    Args:
        network_of: Makes the networks, on the device of the example.
        example: The input.
        sizes: Units of every decision in the dense network.

    Raises:
        StructureError: If the network runs other operators at other widths, or an axis is not a function of them.
    """
    numbers = np.random.default_rng(0)
    drawn = [[int(numbers.integers(1, size + 1)) for size in sizes] for _ in range(len(sizes) + _SPARE)]
    widths = [list(sizes), *drawn]
    runs = [_run_of(network_of(row), example) for row in widths]
    if any(run.operators != runs[0].operators for run in runs):
        raise StructureError("memory can be bounded where all widths run the same operators, and these do not")
    solver, terms = ExtentSolver(widths), []
    for same in zip(*(run.activations for run in runs), strict=True):
        axes = [solver.extent(column) for column in zip(*(made.shape for made in same), strict=True)]
        if any(axis is None for axis in axes):
            raise StructureError("memory can be bounded where lengths of axes follow the widths, and some do not")
        terms.append(_term(same[0].itemsize, [axis for axis in axes if axis is not None]))
    sets = {frozenset(runs[0].alive(operator)) for operator in range(len(runs[0].operators))}
    largest = [alive for alive in sets if not any(alive < other for other in sets)]
    parts = [PolynomialCost("memory", [terms[n] for n in sorted(alive)], sizes) for alive in largest]
    return PeakCost("memory", parts)


class PeakCost:
    """The largest of several costs: like its parts it never falls when a width rises.

    Attributes:
        name: What is counted, `"memory"`.
        dense: Cost of the dense network.
    """

    def __init__(self, name: str, parts: Sequence[PolynomialCost]) -> None:
        """Takes the parts, one an operator."""
        self.name, self._parts = name, tuple(parts)
        self.dense = max(part.dense for part in self._parts)

    def cost(self, widths: Sequence[int]) -> int:
        """Returns the largest cost when decision i keeps `widths[i]` units."""
        return max(part.cost(widths) for part in self._parts)

    def track(self, widths: Sequence[int]) -> PeakTracker:
        """Returns a tracker that starts from `widths`."""
        return PeakTracker([part.track(widths) for part in self._parts])


class PeakTracker:
    """The largest of several costs while one decision changes at a time; see `PeakCost.track`."""

    def __init__(self, parts: Sequence[CostTracker]) -> None:
        """Takes the trackers of the parts."""
        self._parts = parts

    @property
    def cost(self) -> int:
        """Cost of the current widths."""
        return max(part.cost for part in self._parts)

    def cost_with(self, index: int, width: int) -> int:
        """Returns what the cost would be if decision `index` kept `width` units."""
        return max(part.cost_with(index, width) for part in self._parts)

    def set_width(self, index: int, width: int) -> None:
        """Sets decision `index` to keep `width` units."""
        for part in self._parts:
            part.set_width(index, width)


def _run_of(model: nn.Module, example: Any) -> _Run:
    memory = _Memory(list(named_tensors(model).values()))
    with inference(model), memory:
        memory.use(example, 0)
        output = call(model, example)
        memory.use(output, max(0, len(memory.run.operators) - 1))
    return memory.run


def _term(itemsize: int, axes: Sequence[Extent]) -> CostTerm:
    fixed = prod(axis.constant for axis in axes if not axis.counts)
    return CostTerm(itemsize * fixed, tuple(axis for axis in axes if axis.counts))
