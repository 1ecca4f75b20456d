"""Whether zeros of a parameter are zeros of a weight that the network computes from it.

They are for `w * mask`, and not for `w.exp()`, for weight standardisation, or for `w + b @ a`. Where a filter of zeros
is divided by its norm, not even numbers are left. So what the network computes from parameters alone is computed once
more, from random numbers of which half are zero, and whole filters among them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from amc.runtime.call import tensors_in

if TYPE_CHECKING:
    from amc.tracing.entries import ParameterView


class Rehearsal:
    """Repeats computations on other numbers than the parameters: once with scattered zeros, once with whole filters."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes the parameters and buffers by name."""
        self._takes = (_Take(tensors, _scattered), _Take(tensors, _without_filters))

    def forget(self) -> None:
        """Releases what a finished run has computed."""
        for take in self._takes:
            take.forget()

    def ran(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], outputs: Any, views: Mapping[int, ParameterView]
    ) -> None:
        """Repeats an operator that has read nothing but parameters and what was computed from them.

        Args:
            func: The operator.
            args: Its positional arguments.
            kwargs: Its keyword arguments.
            outputs: What it returned.
            views: The inputs that are parameters, by the identity of the tensor.
        """
        for take in self._takes:
            take.ran(func, args, kwargs, outputs, views)

    def keeps_zeros(self, weight: Tensor, view: ParameterView) -> bool:
        """Returns whether the zeros of a parameter are zeros of a weight of its shape that is computed from it."""
        return all(take.keeps_zeros(weight, view) for take in self._takes)


class _Take:
    """One repetition of everything."""

    def __init__(self, tensors: Mapping[str, Tensor], draw: Callable[[Tensor, torch.Generator], Tensor]) -> None:
        self._tensors, self._draw = tensors, draw
        self._numbers: dict[str, Tensor] = {}
        self._computed: dict[int, Tensor | None] = {}

    def forget(self) -> None:
        self._numbers.clear()
        self._computed.clear()

    def ran(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], outputs: Any, views: Mapping[int, ParameterView]
    ) -> None:
        def number(tensor: Tensor) -> Tensor:
            view = views.get(id(tensor))
            found = self._computed[id(tensor)] if view is None else self._shown(view, tensor)
            if found is None:
                raise ValueError("nothing is known of an input")
            return found

        try:
            with torch.no_grad():
                args, kwargs = tree_map_only(Tensor, number, (args, kwargs))
                repeated = tensors_in(func(*args, **kwargs))
        except Exception:  # an operator may refuse any other numbers; nothing is known of the zeros then
            repeated = []
        for place, tensor in enumerate(tensors_in(outputs)):
            self._computed[id(tensor)] = repeated[place] if place < len(repeated) else None

    def keeps_zeros(self, weight: Tensor, view: ParameterView) -> bool:
        found = self._computed.get(id(weight))
        if found is None or not found.isfinite().all():
            return False
        return not found[self._shown(view, weight) == 0].any()

    def _shown(self, view: ParameterView, tensor: Tensor) -> Tensor:
        """Returns the numbers in the place of what a tensor shows of a parameter."""
        if view.name not in self._numbers:
            generator = torch.Generator().manual_seed(len(self._numbers))
            whole = self._tensors[view.name].detach()  # flags and integers stay what they are
            self._numbers[view.name] = self._draw(whole, generator) if whole.is_floating_point() else whole
        return view.shown(self._numbers[view.name], tensor.shape)


def _scattered(tensor: Tensor, generator: torch.Generator) -> Tensor:
    """Draws numbers of which about half are zero."""
    stays = torch.rand(tensor.shape, generator=generator) < 0.5
    return (torch.randn(tensor.shape, generator=generator) * stays).to(tensor)


def _without_filters(tensor: Tensor, generator: torch.Generator) -> Tensor:
    """Draws numbers that are zero for one output, whose axis is the first or the second."""
    numbers = torch.randn(tensor.shape, generator=generator)
    for axis in range(min(2, tensor.dim())):
        numbers.select(axis, 0).zero_()
    return numbers.to(tensor)
