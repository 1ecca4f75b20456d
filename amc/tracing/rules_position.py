"""Rules of operators that address positions: splits, slices, sorting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import gcd
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_map

from amc.runtime.call import tensors_in
from amc.tracing.canvas import leaves_apart
from amc.tracing.pieces import couple_pieces, is_periodic, note_bounds, remember_bound, remember_pieces
from amc.tracing.record import Trace
from amc.tracing.rules_move import move, move_view, moved_together, start_of
from amc.tracing.shadow import Shadow, merged_along

Args = tuple[Any, ...]
Kwargs = dict[str, Any]

UNEQUAL = "addressed by position (slice); parts of equal lengths, or lengths held by attributes, would let it be cut"
"""Why channels stay whole of which a part is taken that has nothing in common with the rest."""

PIECE_ATTRIBUTES = ("width", "split_size", "chunk_size")
"""Names under which modules remember the size of the pieces into which they split their channels (Res2Net)."""


def split(trace: Trace, func: Any, args: Args, kwargs: Kwargs, outputs: Any) -> None:
    """Splits: equal pieces of the channels lose the same positions; for unequal ones modules must know the lengths."""
    view = trace.view_of(args[0])
    if view is not None and move_view(trace, func.overloadpacket.__name__, view, args, outputs):
        return
    axis = (args[2] if len(args) > 2 else kwargs.get("dim", 0)) % args[0].dim()
    shadow = trace.shadow(args[0])
    if axis in shadow.varying and len(outputs) > 1:
        if len({tensor.shape[axis] for tensor in outputs}) == 1:
            couple_pieces(trace, shadow, axis, len(outputs))
            for name in PIECE_ATTRIBUTES:
                if getattr(trace.module, name, None) == args[1]:
                    trace.attribute(trace.modules[-1], name, shadow.vector(axis))
        else:
            vector = shadow.vector(axis)
            assert not isinstance(vector, int)
            if not remember_pieces(trace, vector, [tensor.shape[axis] for tensor in outputs]):
                trace.units.freeze(vector, "split into pieces of fixed, unequal sizes")
    move(trace, func, args, kwargs, outputs)


def positional(trace: Trace, func: Any, args: Args, kwargs: Kwargs, outputs: Any) -> None:
    """Operators that address positions on one axis (select, slice, unbind, roll, flip, index along channels)."""
    name = func.overloadpacket.__name__
    view = trace.view_of(args[0])
    if view is not None and name == "slice" and move_view(trace, name, view, args, outputs):
        return
    shadow = trace.shadow(args[0])
    addressed = {axis % args[0].dim() for axis in _addressed_axes(name, args, kwargs)} & set(shadow.varying)
    if name == "slice" and addressed:
        _slice_channels(trace, shadow, addressed.pop(), args, outputs)
    elif set(shadow.varying) - addressed:
        merged_along(shadow, sorted(addressed), trace.units)
    elif addressed:
        trace.units.freeze(shadow.labels(), f"addressed by position ({name})")
    moved_together(trace, func, (trace.shadow(args[0]).full(), *_on_cpu(args[1:])), kwargs, outputs)


def _slice_channels(trace: Trace, shadow: Shadow, axis: int, args: Args, outputs: Tensor) -> None:
    """Slices of the channels: one of several equal pieces loses the same places as the others."""
    length, piece = shadow.shape[axis], outputs.shape[axis]
    start = start_of(args, length)
    step = args[4] if len(args) > 4 else 1
    if piece == length or not piece:
        return
    vector = shadow.vector(axis)
    assert not isinstance(vector, int)
    bounds = (start, start + piece)
    if step == 1 and leaves_apart(trace, args[0], axis, bounds):
        note_bounds(trace, None, vector, *bounds)
    elif step == 1 and length % piece == 0 and start % piece == 0:
        couple_pieces(trace, shadow, axis, length // piece)
    elif step == 1 and is_periodic(trace, vector, *bounds):
        note_bounds(trace, None, vector, *bounds)
    elif step == 1 and all(remember_bound(trace, vector, bound) for bound in bounds):
        pass
    elif step != 1 and length == step * piece:
        trace.units.union(rows := vector.reshape(-1, step), rows[:, :1])
    elif step == 1 and gcd(*bounds, length) > 1:
        couple_pieces(trace, shadow, axis, length // gcd(*bounds, length))
    else:
        trace.units.freeze(shadow.labels(), UNEQUAL)


def _on_cpu(values: Any) -> Any:
    """Moves index tensors to the device of the shadows."""
    return tree_map(lambda value: value.cpu() if isinstance(value, Tensor) else value, values)


def _addressed_axes(name: str, args: Args, kwargs: Kwargs) -> Sequence[int]:
    if name == "index":
        return [axis for axis, index in enumerate(args[1]) if index is not None]
    if name in ("roll", "flip"):
        axes = (args[2] if len(args) > 2 else kwargs.get("dims", ())) if name == "roll" else args[1]
        return list(axes) or list(range(args[0].dim()))
    return [args[1] if len(args) > 1 else kwargs.get("dim", 0)]


def ordered(trace: Trace, func: Any, args: Args, kwargs: Kwargs, outputs: Any) -> None:
    """Sorting and picking along an axis: allowed along axes without channels."""
    shadow, last = trace.shadow(args[0]), args[0].dim() - 1
    name = func.overloadpacket.__name__
    place = 2 if name == "topk" else 1
    axis = (args[place] if len(args) > place and type(args[place]) is int else kwargs.get("dim", last)) % args[0].dim()
    if axis in shadow.varying:
        trace.units.freeze(shadow.labels(), f"addressed by position ({name})")
    if name == "gather":
        trace.freeze_activation(args[2], "tells positions")
    for tensor in tensors_in(outputs):
        values = tensor.is_floating_point()
        trace.set_shadow(tensor, shadow.with_shape(tensor.shape) if values else Shadow.neutral(tensor.shape))


RULES: dict[str, Callable[..., None]] = {
    **dict.fromkeys(("select", "slice", "unbind", "roll", "flip", "index", "index_select"), positional),
    **dict.fromkeys(("split", "split_with_sizes", "chunk", "unsafe_split", "unsafe_chunk"), split),
    **dict.fromkeys(("sort", "topk", "gather"), ordered),
}
