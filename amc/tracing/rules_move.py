"""Rules of operators that move elements, combine them one by one, or reduce them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from amc.runtime.call import tensors_in
from amc.tracing.code_lengths import note_code_shape
from amc.tracing.entries import ParameterView
from amc.tracing.pieces import couple_pieces
from amc.tracing.record import Trace
from amc.tracing.remembered_shapes import note_shape
from amc.tracing.settling import settled
from amc.tracing.shadow import Shadow, merged_along, moved, of_full
from amc.tracing.units import NEUTRAL

Args = tuple[Any, ...]
Kwargs = dict[str, Any]


def move(trace: Trace, func: Any, args: Args, kwargs: Kwargs, outputs: Any) -> None:
    """Any operator that only moves elements: it is applied to the shadows of its operands."""
    view = trace.view_of(args[0]) if isinstance(args[0], Tensor) else None
    if view is not None and move_view(trace, func.overloadpacket.__name__, view, args, outputs):
        return

    def labels_of(value: Any) -> Any:
        return trace.shadow(value).full() if isinstance(value, Tensor) else value

    moved_together(trace, func, tree_map(labels_of, args), kwargs, outputs)


def moved_together(trace: Trace, func: Any, args: Args, kwargs: Kwargs, outputs: Any) -> None:
    """Applies an operator to shadows in place of its operands."""
    for tensor, label in zip(tensors_in(outputs), tensors_in(func(*args, **kwargs)), strict=True):
        trace.set_shadow(tensor, settled(trace, of_full(label, trace.units)))


def concatenate(trace: Trace, func: Any, args: Args, kwargs: Kwargs, outputs: Tensor) -> None:
    """Concatenation: channels keep their identity; constants among them keep their places."""
    operands, axis = args[0], (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % outputs.dim()
    shadows = [trace.shadow(operand) for operand in operands if operand.dim() == outputs.dim()]
    if any(axis in shadow.varying for shadow in shadows):
        constant = trace.units.new_fixed("concatenated with a constant along the channels")
        shadows = [Shadow.constant(constant, shadow.shape) if shadow.is_neutral else shadow for shadow in shadows]
    moved_together(trace, func, ([shadow.full() for shadow in shadows], axis), {}, outputs)


def move_view(trace: Trace, name: str, view: ParameterView, args: Args, outputs: Any) -> bool:
    """Follows a parameter through transpositions and slices; False if the operator does more than that."""
    source: Tensor = args[0]
    axes = torch.arange(source.dim())
    if name in ("t", "transpose", "permute"):
        order = axes.tolist()
        if name == "permute":
            order = [axis % source.dim() for axis in args[1]]
        else:
            first, second = (0, source.dim() - 1) if name == "t" else (args[1] % source.dim(), args[2] % source.dim())
            order[first], order[second] = order[second], order[first]
        moved_view = ParameterView(view.name, tuple(view.axes[a] for a in order), tuple(view.offsets[a] for a in order))
        trace.set_view(outputs, moved_view)
    elif name in ("detach", "alias", "_to_copy", "clone"):
        trace.set_view(outputs, view)
    elif name in ("split", "split_with_sizes", "slice") and not (name == "slice" and len(args) > 4 and args[4] != 1):
        _slice_view(trace, name, view, args, outputs)
    else:
        return False
    return True


def _slice_view(trace: Trace, name: str, view: ParameterView, args: Args, outputs: Any) -> None:
    axis = (args[2] if name != "slice" else args[1] if len(args) > 1 else 0) if len(args) > 2 or name == "slice" else 0
    start = start_of(args, args[0].shape[axis]) if name == "slice" else 0
    for tensor in tensors_in(outputs):
        offsets = [offset + (start if a == axis % args[0].dim() else 0) for a, offset in enumerate(view.offsets)]
        trace.set_view(tensor, ParameterView(view.name, view.axes, tuple(offsets)))
        start += tensor.shape[axis]


def reshape(trace: Trace, func: Any, args: Args, kwargs: Kwargs, outputs: Any) -> None:
    """Views and reshapes, also of shadows whose repeated axes have no memory of their own."""
    shadow = settled(trace, moved(trace.shadow(args[0]), lambda labels: labels.reshape(outputs.shape), trace.units))
    note_shape(trace, shadow)
    note_code_shape(trace, shadow)
    trace.set_shadow(outputs, shadow)


def pixel_shuffle(trace: Trace, func: Any, args: Args, kwargs: Kwargs, outputs: Any) -> None:
    """Pixel shuffle: the r*r input channels of an output channel go together."""
    factor = int(args[1]) ** 2
    vector = trace.shadow(args[0]).vector(1)
    if not isinstance(vector, int):
        grouped = vector.reshape(-1, factor)
        trace.units.union(grouped, grouped[:, :1])
        vector = grouped[:, 0]
        trace.set_shadow(outputs, Shadow.along(trace.units.find(vector), 1, outputs.shape))
    else:
        trace.set_shadow(outputs, trace.shadow(args[0]).with_shape(outputs.shape))


def start_of(args: Args, length: int) -> int:
    """Returns where a slice begins on an axis; negative places count from the end."""
    start = (args[2] or 0) if len(args) > 2 else 0
    return max(start + length, 0) if start < 0 else min(start, length)


def pad(trace: Trace, func: Any, args: Args, kwargs: Kwargs, outputs: Tensor) -> None:
    """Padding: along an axis without channels it changes nothing; along channels the new positions are fixed."""
    shadow = trace.shadow(args[0])
    core = shadow.core
    for index in range(len(args[1]) // 2):
        axis = args[0].dim() - 1 - index
        before, after = args[1][2 * index : 2 * index + 2]
        if core.size(axis) > 1 and (before or after):
            label = trace.units.new_fixed("padded with a fixed number of channels")
            first, last = max(-before, 0), core.size(axis) + min(after, 0)  # negative padding crops
            if (first, last) != (0, core.size(axis)):
                trace.units.freeze(shadow.labels(), "cropped to a fixed number of channels")
            inner = core.narrow(axis, first, last - first)
            pieces = [_filled(core, axis, before, label), inner, _filled(core, axis, after, label)]
            core = torch.cat(pieces, axis)
    trace.set_shadow(outputs, Shadow(core, tuple(outputs.shape)).resolved(trace.units))


def _filled(core: Tensor, axis: int, length: int, label: int) -> Tensor:
    shape = list(core.shape)
    shape[axis] = max(length, 0)
    return torch.full(shape, label, dtype=torch.int64)


def pointwise(trace: Trace, func: Any, args: Args, kwargs: Kwargs, outputs: Any) -> None:
    """Element-wise operators: elements that meet are coupled."""
    output: Tensor = tensors_in(outputs)[0]
    result = combined(trace, [trace.shadow(tensor) for tensor in tensors_in((args, kwargs))], tuple(output.shape))
    if func.overloadpacket.__name__.removesuffix("_") in SUMS:
        mark_sum(trace, tensors_in(args))
    for tensor in tensors_in(outputs):
        trace.set_shadow(tensor, settled(trace, result.with_shape(tensor.shape)))


def combined(trace: Trace, operands: Sequence[Shadow], shape: tuple[int, ...]) -> Shadow:
    """Couples the elements of several shadows that meet when they are broadcast to a shape."""
    shadows = [_broadcast(operand, shape) for operand in operands]
    varying = {axis for shadow, _ in shadows for axis in shadow.varying}
    result = Shadow.neutral(shape)
    for shadow, repeated in shadows:
        if repeated & varying and not shadow.is_neutral:
            trace.units.freeze(shadow.labels(), "broadcast over the channels of another activation")
            continue
        trace.units.union(result.core.numpy(), shadow.core.numpy())
        labels = torch.where(result.core != NEUTRAL, result.core, shadow.core)
        result = Shadow(labels, shape).resolved(trace.units)
    return result


def _broadcast(shadow: Shadow, shape: tuple[int, ...]) -> tuple[Shadow, set[int]]:
    """Aligns a shadow with the shape of the result; also returns the axes along which its tensor is repeated."""
    missing = len(shape) - len(shadow.shape)
    core = shadow.core.reshape((1,) * missing + tuple(shadow.core.shape))
    own = (1,) * missing + shadow.shape
    return Shadow(core, shape), {axis for axis, size in enumerate(shape) if own[axis] == 1 and size > 1}


SUMS = ("add", "sub", "rsub", "lerp", "addcmul", "addcdiv")


def mark_sum(trace: Trace, tensors: Sequence[Tensor]) -> None:
    """Marks channels that are summed from different layers as a residual stream.

    A bias is not one, even a bias per attention head, and neither is a layer that is summed with itself.
    """
    shadows = {trace.writers(tensor): shadow for tensor in tensors if not (shadow := trace.shadow(tensor)).is_neutral}
    written = [shadow for writers, shadow in shadows.items() if writers]
    if len(written) > 1 and not any(trace.units.marked(shadow.labels(), "heads") for shadow in written):
        trace.units.mark(written[0].labels(), "residual")


def created(trace: Trace, func: Any, args: Args, kwargs: Kwargs, outputs: Any) -> None:
    """Operators that make a new tensor: one with the shape of another (`zeros_like`) is as wide as that."""
    source = trace.shadow(args[0]) if trace.view_of(args[0]) is None else Shadow.neutral(args[0].shape)
    alike = source.shape == tuple(outputs.shape) and not trace.units.any_fixed(source.labels())
    trace.set_shadow(outputs, source if alike else Shadow.neutral(outputs.shape))


def restrided(trace: Trace, func: Any, args: Args, kwargs: Kwargs, outputs: Tensor) -> None:
    """Changes of only the memory layout; anything else that `as_strided` can do depends on fixed positions."""
    shadow = trace.shadow(args[0])
    if outputs.shape != torch.Size(shadow.shape):
        trace.units.freeze(shadow.labels(), "addressed by position (as_strided)")
        shadow = Shadow.neutral(outputs.shape)
    trace.set_shadow(outputs, shadow)


def joined(trace: Trace, func: Any, args: Args, kwargs: Kwargs, outputs: Tensor) -> None:
    """`view_as_complex`: the two numbers of a pair go together."""
    shadow = merged_along(trace.shadow(args[0]), [args[0].dim() - 1], trace.units)
    trace.set_shadow(outputs, Shadow(shadow.core.squeeze(-1), tuple(outputs.shape)))


def parted(trace: Trace, func: Any, args: Args, kwargs: Kwargs, outputs: Tensor) -> None:
    """`view_as_real`: both numbers of a pair belong to its channel."""
    trace.set_shadow(outputs, Shadow(trace.shadow(args[0]).core.unsqueeze(-1), tuple(outputs.shape)))


def shuffle(trace: Trace, func: Any, args: Args, kwargs: Kwargs, outputs: Tensor) -> None:
    """Channel shuffle: each of its groups loses the same places."""
    couple_pieces(trace, trace.shadow(args[0]), 1, int(args[1]))
    move(trace, func, args, kwargs, outputs)


def gated(trace: Trace, func: Any, args: Args, kwargs: Kwargs, outputs: Tensor) -> None:
    """Gated linear units: each half of the channels loses the same places."""
    axis = (args[1] if len(args) > 1 else -1) % args[0].dim()
    if axis in trace.shadow(args[0]).varying:
        couple_pieces(trace, trace.shadow(args[0]), axis, 2)
    halves = [Shadow(half, tuple(outputs.shape)) for half in trace.shadow(args[0]).full().chunk(2, axis)]
    trace.set_shadow(outputs, settled(trace, combined(trace, [half.compacted() for half in halves], halves[0].shape)))


def spatial(trace: Trace, func: Any, args: Args, kwargs: Kwargs, outputs: Any) -> None:
    """Pooling and resizing: all but the last axes stay."""
    shadow = trace.shadow(args[0])
    output: Tensor = tensors_in(outputs)[0]
    kept_axes = min(2, args[0].dim() - 1)
    if any(axis >= kept_axes for axis in shadow.varying):
        trace.units.freeze(shadow.labels(), "pooled or resized along the channels")
        shadow = Shadow.constant(trace.units.new_fixed("pooled or resized along the channels"), shadow.shape)
    for tensor in tensors_in(outputs):
        trace.set_shadow(tensor, shadow.with_shape(output.shape))


def reduce(trace: Trace, func: Any, args: Args, kwargs: Kwargs, outputs: Any) -> None:
    """Reductions: over axes without channels they keep the labels; over channels they are a statistic of all."""
    name = func.overloadpacket.__name__
    dims = _reduced_axes(name, args)
    shadow = trace.shadow(args[0])
    crossed = [axis for axis in shadow.varying if axis in dims]
    if crossed:
        _note_statistic(trace, name, shadow, crossed[-1], outputs)
    core = shadow.core
    for axis in crossed:
        core = core.amax(axis, keepdim=True) * NEUTRAL
    for tensor in tensors_in(outputs):
        keep = tensor.dim() == args[0].dim()
        kept = core if keep else core.reshape([size for axis, size in enumerate(core.shape) if axis not in dims])
        trace.set_shadow(tensor, Shadow(kept, tuple(tensor.shape)).resolved(trace.units))


def _note_statistic(trace: Trace, name: str, shadow: Shadow, axis: int, outputs: Any) -> None:
    """Records the effect of a statistic over channels: it changes when some are removed, and may reveal positions."""
    reason = f"the network tells the positions of its channels ({name})"
    if name in ("argmax", "argmin"):
        trace.units.freeze(shadow.labels(), reason)
        return
    trace.units.mark(shadow.labels(), "normalised")
    if name in ("max", "min") and isinstance(outputs, (tuple, list)):  # values and their positions
        trace.freeze_if_read(outputs[1], shadow.labels(), reason)
    # A root-mean-square norm runs as a mean, and compares the width with the one that it remembers.
    trace.attribute(trace.modules[-1], "normalized_shape", shadow.vector(axis))


def _reduced_axes(name: str, args: Args) -> list[int]:
    rank = args[0].dim()
    position = 2 if name in ("linalg_vector_norm", "norm") else 1
    dims = args[position] if len(args) > position else None
    if isinstance(dims, int):
        dims = [dims]
    return [axis % rank for axis in dims] if dims else list(range(rank))


def regions(trace: Trace, func: Any, args: Args, kwargs: Kwargs, outputs: Any) -> None:
    """Pooling of regions of a map: channels keep their identity; the tensor of regions has a fixed form."""
    trace.freeze_activation(args[1], "tells regions")
    spatial(trace, func, args, kwargs, outputs)


def unfolded(trace: Trace, func: Any, args: Args, kwargs: Kwargs, outputs: Tensor) -> None:
    """`unfold` and its inverse: the k * k pixels under a kernel lie one after the other, channel by channel."""
    shadow = trace.shadow(args[0])
    folds = func.overloadpacket.__name__ == "col2im"
    axis = args[0].dim() - (2 if folds else 3)
    vector = trace.shadow(args[0]).vector(axis)
    if isinstance(vector, int) or shadow.varying != (axis,):
        raise ValueError("unfolded along another axis than the channels")
    kernel = int(np.prod(args[2 if folds else 1]))
    if folds:
        by_channel = vector.reshape(-1, kernel)
        trace.units.union(by_channel, by_channel[:, :1])
        result, place = by_channel[:, 0], outputs.dim() - 3
    else:
        result, place = np.repeat(vector, kernel), outputs.dim() - 2
    trace.set_shadow(outputs, Shadow.along(trace.units.find(result), place, outputs.shape))


def softmax(trace: Trace, func: Any, args: Args, kwargs: Kwargs, outputs: Tensor) -> None:
    """Softmax: allowed along axes without channels."""
    shadow = trace.shadow(args[0])
    axis = args[1] % args[0].dim()
    if axis in shadow.varying:
        trace.units.freeze(shadow.labels(), "normalised by a softmax over the channels")
    trace.set_shadow(outputs, shadow)


Rule = Callable[[Trace, Any, Args, Kwargs, Any], None]


MOVES = """permute transpose t expand unsqueeze squeeze stack detach alias repeat _to_copy clone contiguous
    lift_fresh repeat_interleave unfold pixel_unshuffle"""
POOLS = """max_pool2d_with_indices avg_pool2d _adaptive_avg_pool2d adaptive_max_pool2d max_pool1d avg_pool1d
    max_pool3d_with_indices avg_pool3d _adaptive_avg_pool3d adaptive_max_pool3d adaptive_avg_pool1d reflection_pad1d
    reflection_pad2d replication_pad1d replication_pad2d upsample_nearest2d upsample_bilinear2d upsample_bicubic2d
    _upsample_nearest_exact2d upsample_nearest1d upsample_linear1d upsample_trilinear3d upsample_nearest3d
    _upsample_nearest_exact1d _upsample_nearest_exact3d _upsample_bilinear2d_aa _upsample_bicubic2d_aa
    fractional_max_pool2d reflection_pad3d replication_pad3d"""
REDUCTIONS = "mean sum amax amin var std var_mean linalg_vector_norm norm argmax argmin max min"
POINTWISE = """hardswish hardsigmoid leaky_relu elu rrelu_with_noise _prelu_kernel rsub fill zero native_dropout complex
    polar bernoulli normal uniform exponential random geometric cauchy log_normal"""
_LIKE = ["empty_like", "zeros_like", "ones_like", "rand_like", "randn_like", "full_like"]
CREATORS = frozenset([*_LIKE, "new_zeros", "new_empty", "new_ones", "new_full"])
"""Operators that make a new tensor, given another."""

RULES: dict[str, Rule] = {
    **dict.fromkeys(MOVES.split(), move),
    **dict.fromkeys(POOLS.split(), spatial),
    **dict.fromkeys(REDUCTIONS.split(), reduce),
    **dict.fromkeys(POINTWISE.split(), pointwise),
    **dict.fromkeys(CREATORS, created),
    **dict.fromkeys(("view", "_unsafe_view", "reshape", "_reshape_alias"), reshape),
    **dict.fromkeys(("_softmax", "_log_softmax", "_safe_softmax", "cumsum"), softmax),
    **dict.fromkeys(("channel_shuffle", "native_channel_shuffle"), shuffle),
    **dict.fromkeys(("roi_align", "roi_pool"), regions),
    **dict.fromkeys(("im2col", "col2im"), unfolded),
    "as_strided": restrided,
    "cat": concatenate,
    "constant_pad_nd": pad,
    "glu": gated,
    "pixel_shuffle": pixel_shuffle,
    "view_as_complex": joined,
    **dict.fromkeys(("view_as_real", "view_as_real_copy"), parted),
}
