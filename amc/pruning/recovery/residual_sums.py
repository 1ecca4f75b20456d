"""Where the output of a layer goes straight into a sum, as at the end of a residual block.

Sequential reconstruction fits such a layer so that the sum comes out right, not only its own summand. Which sums
there are is found by running the network and watching the operators, so that no architecture needs to be known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.hooks import RemovableHandle

from amc.errors import StructureError
from amc.pruning.batch_norm import is_affine
from amc.runtime.call import call
from amc.structure import LayerSpec

_ADDITIONS = (torch.ops.aten.add.Tensor, torch.ops.aten.add_.Tensor)


@dataclass(frozen=True)
class Step:
    """One operator of a forward pass, by what it is and how many of its kind ran before.

    Other kinds do not count: how often a reshape copies depends on the widths, and PyTorch detaches what `torch.full`
    and the like return only if something holds it.
    """

    operator: Any
    place: int


@dataclass(frozen=True)
class ResidualSum:
    """A sum that a layer's output (through its batch norm) enters.

    Attributes:
        addition: The addition.
        other: The operator that produced the other summand, before the layer runs.
        outlet: Name of the module whose output is added: the layer, or its batch norm.
    """

    addition: Step
    other: Step
    outlet: str

    def check(self, holds: bool) -> None:
        """Takes whether the sum was found in another pass.

        Raises:
            StructureError: If it was not.
        """
        if not holds:
            raise StructureError(
                f"a network must run the same operators for every batch: the sum that {self.outlet} enters on two "
                f"images is not there on more; prune by the policy with another reconstruction, as in "
                "amc prune RUN --pruning.recovery once"
            )


class OperatorWatch(TorchDispatchMode):  # type: ignore[no-untyped-call, unused-ignore]
    """Numbers the operators of a forward pass and reports them.

    Attributes:
        count: Operators seen so far.
        paused: While set, operators pass uncounted (for the work of hooks).
    """

    def __init__(self, report: Callable[[Step, Sequence[Any], Any], None]) -> None:
        """Reports every operator as `report(step, arguments, output)`."""
        super().__init__()  # type: ignore[no-untyped-call, unused-ignore]
        self._report = report
        self.count = 0
        self._counts: Counter[Any] = Counter()
        self.paused = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs an operator and reports it."""
        output = func(*args, **(kwargs or {}))
        if not self.paused:
            self.paused = True
            # A scaled summand is not the layer's output as it is: no plain addition.
            operator = func if not kwargs or kwargs.get("alpha", 1) == 1 else (func, "scaled")
            self._report(Step(operator, self._counts[operator]), args, output)
            self.paused = False
            self.count += 1
            self._counts[operator] += 1
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
    watch = trace.watch
    hooks: list[RemovableHandle] = []
    for layer in layers:
        if layer.calls != 1 or layer.weight != f"{layer.name}.weight":
            continue
        module = model.get_submodule(layer.name)
        outlet = model.get_submodule(layer.batch_norm) if layer.batch_norm else module
        if layer.batch_norm is None or is_affine(outlet):
            hooks.append(module.register_forward_pre_hook(trace.starts(layer.name)))
            hooks.append(outlet.register_forward_hook(trace.ends(layer.name, layer.batch_norm or layer.name)))
    _run(model, images, watch, hooks)
    return trace.sums


def confirm_residual_sums(sums: Mapping[str, ResidualSum], model: nn.Module, images: Tensor) -> dict[str, ResidualSum]:
    """Keeps the sums that are found again in another pass: there, the same two tensors are added.

    A network need not run the same operators twice, and the pruned one not those of the dense one. A wrong summand
    would be worse than none.

    Args:
        sums: The sums, by the layer's name.
        model: The network of the other pass, in evaluation mode.
        images: A small batch.

    Returns:
        Those of the sums that hold.
    """
    additions = {found.addition: name for name, found in sums.items()}
    others = {found.other for found in sums.values()}
    held: dict[Step, Any] = {}
    outlets: dict[str, Any] = {}
    confirmed: dict[str, ResidualSum] = {}

    def report(step: Step, args: Sequence[Any], output: Any) -> None:
        if step in others:
            held[step] = output
        if step in additions:
            found = sums[additions[step]]
            if {id(args[0]), id(args[1])} == {id(held.get(found.other)), id(outlets.get(found.outlet))}:
                confirmed[additions[step]] = found

    def noter(outlet: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            outlets[outlet] = output

        return hook

    names = {found.outlet for found in sums.values()}
    hooks = [model.get_submodule(name).register_forward_hook(noter(name)) for name in names]
    _run(model, images, OperatorWatch(report), hooks)
    return confirmed


def _run(model: nn.Module, images: Tensor, watch: OperatorWatch, hooks: Sequence[RemovableHandle]) -> None:
    """Runs a network once under a watch, and removes the hooks."""
    try:
        with torch.no_grad(), watch:
            call(model, images)
    finally:
        for hook in hooks:
            hook.remove()


class Summands:
    """Holds the other summands of the sums that are still to come."""

    def __init__(self, sums: Sequence[ResidualSum]) -> None:
        """Starts with nothing held."""
        self._wanted = Counter(found.other for found in sums)
        self._by_addition = {found.addition: found for found in sums}
        self._held: dict[Step, Tensor] = {}
        self._taken: dict[Step, int] = {}

    def report(self, step: Step, args: Sequence[Any], output: Any) -> None:
        """Holds a summand that is wanted; checks that an addition adds the one that was taken for it."""
        if step in self._wanted:
            self._held[step] = output
        if step in self._by_addition:
            taken = self._taken.get(step)
            self._by_addition[step].check(taken is None or taken in [id(one) for one in args[:2]])

    def holds(self, found: ResidualSum | None) -> bool:
        """Tells whether the other summand of a sum has been computed; there is nothing to wait for without a sum."""
        return found is None or found.other in self._held

    def take(self, found: ResidualSum) -> Tensor:
        """Returns the other summand of a sum."""
        other = found.other
        self._wanted[other] -= 1  # a summand is let go with its last use: held to the end, they would fill the memory
        self._taken[found.addition] = id(self._held[other])  # the network holds it until the addition
        return self._held[other] if self._wanted[other] else self._held.pop(other)


class _Trace:
    """Follows which operator made which tensor. Tensors are held, so that no identity is used twice."""

    def __init__(self) -> None:
        """Starts empty."""
        self.watch = OperatorWatch(self.report)
        self._producer: dict[int, tuple[int, Step]] = {}
        self._outlet: dict[int, tuple[str, str]] = {}
        self._start: dict[str, int] = {}
        self._held: list[Any] = []
        self.sums: dict[str, ResidualSum] = {}

    def starts(self, layer: str) -> Callable[[nn.Module, Any], None]:
        """Makes the hook that notes when a layer starts."""

        def hook(module: nn.Module, inputs: Any) -> None:
            self._start[layer] = self.watch.count

        return hook

    def ends(self, layer: str, outlet: str) -> Callable[[nn.Module, Any, Any], None]:
        """Makes the hook that notes a layer's output, past its batch norm."""

        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            self._outlet[id(output)] = layer, outlet

        return hook

    def report(self, step: Step, args: Sequence[Any], output: Any) -> None:
        """Takes note of an operator."""
        if step.operator in _ADDITIONS and isinstance(args[1], Tensor) and args[0].shape == args[1].shape:
            self._addition(step, args[0], args[1])
        if isinstance(output, Tensor):
            self._held.append(output)
            self._producer[id(output)] = self.watch.count, step
            self._outlet.pop(id(output), None)  # changed in place: no longer the layer's output as it was

    def _addition(self, addition: Step, left: Tensor, right: Tensor) -> None:
        """Finds the layer that can set a sum right."""
        candidates = [
            (*self._outlet[id(one)], self._producer[id(other)])
            for one, other in ((left, right), (right, left))
            if id(one) in self._outlet and id(other) in self._producer
        ]
        if not candidates:
            return
        layer, outlet, (number, other) = max(candidates, key=lambda found: self._start[found[0]])
        if number < self._start[layer]:
            self.sums[layer] = ResidualSum(addition, other, outlet)
