"""Where the output of a layer goes straight into a sum, as at the end of a residual block.

Sequential reconstruction fits such a layer so that the sum comes out right, not only its own summand. Which sums
there are is found by running the network and watching the operators, so that no architecture needs to be known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from amc.pruning.regressions import is_affine
from amc.structure import LayerSpec

_ADDITIONS = (torch.ops.aten.add.Tensor, torch.ops.aten.add_.Tensor)


@dataclass(frozen=True)
class ResidualSum:
    """A sum that a layer's output (through its batch norm) enters.

    Attributes:
        operator: Index of the addition among the operators of a forward pass.
        other: Index of the operator that produced the other summand, before the layer runs.
    """

    operator: int
    other: int


class OperatorWatch(TorchDispatchMode):  # type: ignore[no-untyped-call, unused-ignore]
    """Counts the operators of a forward pass and reports the outputs of some.

    Attributes:
        count: Operators seen so far.
        paused: While set, operators pass uncounted (for the work of hooks).
    """

    def __init__(self, report: Callable[[int, Any, Sequence[Any], Any], None]) -> None:
        """Reports every operator as `report(index, operator, arguments, output)`."""
        super().__init__()  # type: ignore[no-untyped-call, unused-ignore]
        self._report = report
        self.count = 0
        self.paused = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs an operator and reports it."""
        output = func(*args, **(kwargs or {}))
        if not self.paused:
            self.paused = True
            self._report(self.count, func, args, output)
            self.paused = False
            self.count += 1
        return output

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Lets operators pass uncounted."""
        before, self.paused = self.paused, True
        try:
            yield
        finally:
            self.paused = before


def find_residual_sums(model: nn.Module, layers: Sequence[LayerSpec], images: Tensor) -> dict[str, ResidualSum]:
    """Finds the layers whose output enters a sum that they can set right.

    Where several layers enter one sum (a block and the convolution of its shortcut), the one that runs last can. A
    layer that runs more than once is left out.

    Args:
        model: The network, in evaluation mode.
        layers: Its layers.
        images: A small batch `(N, C, H, W)`.

    Returns:
        The sum by the layer's name.
    """
    trace = _Trace()
    watch = OperatorWatch(trace.report)
    hooks = []
    for layer in layers:
        if layer.calls != 1 or layer.weight != f"{layer.name}.weight":
            continue
        module = model.get_submodule(layer.name)
        outlet = model.get_submodule(layer.batch_norm) if layer.batch_norm else module
        if layer.batch_norm is None or is_affine(outlet):
            hooks.append(module.register_forward_pre_hook(trace.starts(layer.name, watch)))
            hooks.append(outlet.register_forward_hook(trace.ends(layer.name)))
    try:
        with torch.no_grad(), watch:
            model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return trace.sums


class _Trace:
    """Follows which operator made which tensor. Tensors are held, so that no identity is used twice."""

    def __init__(self) -> None:
        """Starts empty."""
        self._producer: dict[int, int] = {}
        self._outlet: dict[int, str] = {}
        self._start: dict[str, int] = {}
        self._held: list[Any] = []
        self.sums: dict[str, ResidualSum] = {}

    def starts(self, layer: str, watch: OperatorWatch) -> Callable[[nn.Module, Any], None]:
        """Makes the hook that notes when a layer starts."""

        def hook(module: nn.Module, inputs: Any) -> None:
            self._start[layer] = watch.count

        return hook

    def ends(self, layer: str) -> Callable[[nn.Module, Any, Any], None]:
        """Makes the hook that notes a layer's output, past its batch norm."""

        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            self._outlet[id(output)] = layer

        return hook

    def report(self, index: int, operator: Any, args: Sequence[Any], output: Any) -> None:
        """Takes note of an operator."""
        if operator in _ADDITIONS and isinstance(args[1], Tensor) and args[0].shape == args[1].shape:
            self._addition(index, args[0], args[1])
        if isinstance(output, Tensor):
            self._held.append(output)
            self._producer[id(output)] = index
            self._outlet.pop(id(output), None)  # changed in place: no longer the layer's output as it was

    def _addition(self, index: int, left: Tensor, right: Tensor) -> None:
        """Finds the layer that can set a sum right."""
        candidates = [
            (self._start[self._outlet[id(one)]], self._outlet[id(one)], other)
            for one, other in ((left, right), (right, left))
            if id(one) in self._outlet and id(other) in self._producer
        ]
        if not candidates:
            return
        start, layer, other = max(candidates, key=lambda found: found[0])
        if self._producer[id(other)] < start:
            self.sums[layer] = ResidualSum(index, self._producer[id(other)])
