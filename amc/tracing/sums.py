"""The additions of module outputs in a network, as a trace sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from amc.structure.residual_sums import OperatorCall, OperatorCounter, ResidualSum

_ADDITIONS = frozenset(map(str, (torch.ops.aten.add.Tensor, torch.ops.aten.add_.Tensor)))


@dataclass(frozen=True)
class _Entry:
    """An addition of a module's output to what an operator produced.

    Attributes:
        addition: The addition.
        outlets: Names of the modules that returned the one summand.
        other: The operator that produced the other.
        produced: How many operators ran before that one.
    """

    addition: OperatorCall
    outlets: tuple[str, ...]
    other: OperatorCall
    produced: int


class SumRecorder:
    """Follows which operator made which tensor, and which module returned it.

    Tensors are known by their identity: the caller keeps them alive, so that no identity is reused.
    """

    def __init__(self) -> None:
        """Starts empty."""
        self._counter = OperatorCounter()
        self._producer: dict[int, tuple[int, OperatorCall]] = {}
        self._outlets: dict[int, tuple[str, ...]] = {}
        self._starts: dict[str, int] = {}
        self._entries: list[_Entry] = []

    def started(self, module: str) -> None:
        """Records that a module starts."""
        self._starts[module] = self._counter.count

    def returned(self, module: str, output: Any) -> None:
        """Records what a module returns."""
        if isinstance(output, Tensor):
            self._outlets[id(output)] = (*self._outlets.get(id(output), ()), module)

    def ran(self, kind: str, args: Sequence[Any], output: Any) -> OperatorCall | None:
        """Records an operator, or a function that counts as one.

        Returns:
            The operator, if it adds two tensors of the same shape.
        """
        number, step = self._counter.count, self._counter.next(kind)
        adds = kind in _ADDITIONS and isinstance(args[1], Tensor) and args[0].shape == args[1].shape
        if adds:
            self._note(step, args[0], args[1])
            self._note(step, args[1], args[0])
        if isinstance(output, Tensor):
            self._producer[id(output)] = number, step
            self._outlets.pop(id(output), None)  # changed in place: no longer a module's output as it was
        return step if adds else None

    def _note(self, addition: OperatorCall, one: Tensor, other: Tensor) -> None:
        if id(one) in self._outlets and id(other) in self._producer:
            number, step = self._producer[id(other)]
            self._entries.append(_Entry(addition, self._outlets[id(one)], step, number))

    def of_layer(self, layer: str, outlet: str) -> list[ResidualSum]:
        """Returns the sums that a layer can correct, in the order of execution: the other summand is computed first.

        Of several layers that enter one sum (a block and the convolution of its shortcut) that is the one that runs
        last.

        Args:
            layer: Name of a layer that runs once.
            outlet: Name of the module whose output is added: the layer, or the batch norm that alone reads it.
        """
        start = self._starts.get(layer, 0)
        return [
            ResidualSum(layer, entry.addition, entry.other, outlet)
            for entry in self._entries
            if outlet in entry.outlets and entry.produced < start
        ]
