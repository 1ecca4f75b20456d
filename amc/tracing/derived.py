"""Weights that are computed from parameters when the network runs: weight standardisation, weight normalisation.

A tensor that is computed from parameters alone is recorded as derived from them. If such a tensor then serves as the
weight of a layer, and one of the parameters has its shape, the axes of that parameter are taken for the axes of the
weight.
"""

from __future__ import annotations

from torch import Tensor

from amc.tracing.entries import Derived, ParameterView, dense_flops
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
    shape = weight.shape[::-1] if transposed else weight.shape
    alike = [name for name in derived.names if trace.tensors[name].shape == shape]
    if len(alike) != 1:
        return None
    axes = tuple(range(weight.dim()))
    return ParameterView(alike[0], axes[::-1] if transposed else axes, (0,) * weight.dim())


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
    if derived is None:
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
