"""Weights that are computed from parameters when the network runs: weight standardisation, weight normalisation.

A tensor that is computed from parameters alone is recorded as derived from them. If such a tensor then serves as the
weight of a layer, and one of the parameters has its shape, the axes of that parameter are taken for the axes of the
weight. A parameter that was only rearranged (`w[:, :, None, None]`, `w.flatten(1)`) is followed axis by axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from torch import Tensor

from amc.tracing.entries import Derived, ParameterView, Pieces, dense_flops
from amc.tracing.record import Trace
from amc.tracing.units import Labels


def origin(trace: Trace, tensors: list[Tensor]) -> Derived | None:
    """Returns what tensors are derived from together, or None if an activation or a constant is among them."""
    names: set[str] = set()
    costs: list[int] = []
    for tensor in tensors:
        view, derived = trace.view_of(tensor), trace.derived.get(id(tensor))
        if derived is not None:
            names |= derived.names
            costs += [place for place in derived.costs if place not in costs]
        elif view is not None:
            names.add(view.name)
        else:
            return None
    return Derived(frozenset(names), tuple(costs)) if names else None


def weight_view(trace: Trace, weight: Tensor, *, transposed: bool = False) -> ParameterView | None:
    """Returns the parameter that a layer's weight shows, or is derived from axis by axis.

    Args:
        trace: What is known so far.
        weight: The weight as the operator takes it.
        transposed: Whether the operator takes the weight of a linear layer transposed.
    """
    view, derived = trace.view_of(weight), trace.derived.get(id(weight))
    if view is not None or derived is None:
        return view
    if derived.axes is not None and (followed := _followed(trace, derived)) is not None:
        return followed
    shape = weight.shape[::-1] if transposed else weight.shape
    alike = [name for name in derived.names if trace.tensors[name].shape == shape]
    if len(alike) != 1:
        return None
    axes = tuple(range(weight.dim()))
    return ParameterView(alike[0], axes[::-1] if transposed else axes, (0,) * weight.dim())


def keeps_zeros(trace: Trace, weight: Tensor, view: ParameterView) -> bool:
    """Returns whether the zeros of the parameter that a layer's weight shows are zeros of the weight."""
    derived = trace.derived.get(id(weight))
    if trace.view_of(weight) is not None or derived is None or derived.axes is not None:
        return True
    return trace.rehearsal.keeps_zeros(weight, view)


def settle_weight(trace: Trace, weight: Tensor, view: ParameterView, read: Labels | int, written: Labels) -> None:
    """Makes the other inputs of a derived weight follow its axes, and restates the cost of the computation.

    Args:
        trace: What is known so far.
        weight: The weight; nothing happens if it is a parameter's own.
        view: The parameter that it is derived from.
        read: Labels of the channels that the layer reads.
        written: Labels of the channels that it writes.
    """
    derived = trace.derived.get(id(weight))
    if derived is None or (derived.axes is not None and _followed(trace, derived) is not None):
        return
    if not isinstance(read, int):
        trace.units.mark(read, "normalised")  # the rest of a filter is then scaled by other statistics
    for name in derived.names:
        trace.element_labels.pop(name, None)
        tensor = trace.tensors[name]
        if name != view.name and tensor.numel() == len(written):
            axis = next(axis for axis, size in enumerate(tensor.shape) if size == len(written))
            trace.tie(ParameterView(name, tuple(range(tensor.dim())), (0,) * tensor.dim()), axis, written, "follow")
    shape = trace.tensors[view.name].shape
    axes = tuple(trace.axis_labels.get((view.name, axis), size) for axis, size in enumerate(shape))
    for place in derived.costs:
        flops = dense_flops(*trace.costs[place])
        assert flops % weight.numel() == 0
        trace.costs[place] = (flops // weight.numel(), axes)


def pieces_of(trace: Trace, tensor: Tensor) -> tuple[str, tuple[Pieces, ...]] | None:
    """Returns the parameter that a tensor is, rearranged or not, and where its axes come from; None if it is none."""
    derived = trace.derived.get(id(tensor))
    if derived is not None and derived.axes is not None:
        return next(iter(derived.names)), derived.axes
    view = trace.view_of(tensor)
    if view is None or tensor.numel() != trace.tensors[view.name].numel():
        return None
    return view.name, tuple(_whole(axis, size) for axis, size in zip(view.axes, tensor.shape, strict=True))


def rearranged(trace: Trace, func: Any, args: tuple[Any, ...], outputs: Any) -> tuple[Pieces, ...] | None:
    """Returns where the axes of an operator's output come from, if it only rearranges one parameter."""
    known = pieces_of(trace, args[0]) if args and isinstance(args[0], Tensor) else None
    if known is None or not isinstance(outputs, Tensor):
        return None
    name, axes = func.overloadpacket.__name__, known[1]
    if name in _COPIES:
        return axes
    if name in _REGROUPINGS:
        return _regrouped([piece for pieces in axes for piece in pieces], outputs.shape)
    if name == "permute":
        return tuple(axes[axis] for axis in args[1])
    if name in ("t", "transpose"):
        order = list(range(len(axes)))
        first, second = args[1:3] if name == "transpose" else (0, -1)
        order[first], order[second] = order[second], order[first]
        return tuple(axes[axis] for axis in order)
    if name == "expand":
        added = ((),) * (outputs.dim() - len(axes)) + axes
        return tuple(pieces or _whole(None, size) for pieces, size in zip(added, outputs.shape, strict=True))
    return None


_COPIES = frozenset(["detach", "alias", "clone", "contiguous", "_to_copy"])
_REGROUPINGS = frozenset(["view", "_unsafe_view", "reshape", "_reshape_alias", "unsqueeze", "squeeze"])


def _whole(axis: int | None, size: int) -> Pieces:
    return ((axis, size),) if size > 1 else ()


def _regrouped(pieces: Sequence[tuple[int | None, int]], shape: Sequence[int]) -> tuple[Pieces, ...] | None:
    """Divides pieces, one after the other, among the axes of a shape; None if a piece would have to be split."""
    left, axes = list(pieces), []
    for size in shape:
        taken: list[tuple[int | None, int]] = []
        while left and prod(length for _, length in taken) < size:
            taken.append(left.pop(0))
        if prod(length for _, length in taken) != size:
            return None
        axes.append(tuple(taken))
    return tuple(axes)


def _followed(trace: Trace, derived: Derived) -> ParameterView | None:
    """Returns a rearranged parameter as a view, if every axis is one of its own, or new; the first two are its own."""
    axes = [pieces[0][0] if len(pieces) == 1 else None for pieces in derived.axes or ()]
    if any(len(pieces) > 1 for pieces in derived.axes or ()) or None in axes[:2]:
        return None
    view = tuple(-1 if axis is None else axis for axis in axes)
    return ParameterView(next(iter(derived.names)), view, (0,) * len(view))
