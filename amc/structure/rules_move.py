"""Rules of operators that move elements, combine them one by one, or reduce them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_iter, tree_map

from amc.structure.shadow import Shadow, merged_along, moved, of_full
from amc.structure.tracer import ParameterView, Producer, Trace

Args = tuple[Any, ...]
Kwargs = dict[str, Any]


def move(trace: Trace, func: Any, args: Args, kwargs: Kwargs, outputs: Any) -> None:
    """Any operator that only moves elements: it is applied to the shadows of its operands."""
    view = trace.view_of(args[0]) if isinstance(args[0], Tensor) else None
    if view is not None and _move_view(trace, func.overloadpacket.__name__, view, args, outputs):
        return

    def labels_of(value: Any) -> Any:
        is_index = isinstance(value, Tensor) and value is not args[0] and not value.is_floating_point()
        return trace.shadow(value).full() if isinstance(value, Tensor) and not is_index else value

    labels = func(*tree_map(labels_of, args), **kwargs)
    for tensor, label in zip(_tensors(outputs), _tensors(labels), strict=True):
        trace.set_shadow(tensor, trace.settled(of_full(label, trace.units)))


def _move_view(trace: Trace, name: str, view: ParameterView, args: Args, outputs: Any) -> bool:
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
    start = (args[2] or 0) % (args[0].shape[axis] + 1) if name == "slice" and len(args) > 2 else 0
    for tensor in _tensors(outputs):
        offsets = [offset + (start if a == axis % args[0].dim() else 0) for a, offset in enumerate(view.offsets)]
        trace.set_view(tensor, ParameterView(view.name, view.axes, tuple(offsets)))
        start += tensor.shape[axis]


def reshape(trace: Trace, func: Any, args: Args, kwargs: Kwargs, outputs: Any) -> None:
    """Views and reshapes, also of shadows whose repeated axes have no memory of their own."""
    shadow = moved(trace.shadow(args[0]), lambda labels: labels.reshape(outputs.shape), trace.units)
    trace.set_shadow(outputs, trace.settled(shadow))


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


def split(trace: Trace, func: Any, args: Args, kwargs: Kwargs, outputs: Any) -> None:
    """Splits: equal pieces of the channels lose the same positions; unequal ones count on fixed sizes."""
    view = trace.view_of(args[0])
    if view is not None and _move_view(trace, func.overloadpacket.__name__, view, args, outputs):
        return
    axis = (args[2] if len(args) > 2 else kwargs.get("dim", 0)) % args[0].dim()
    vector = trace.shadow(args[0]).vector(axis)
    sizes = {tensor.shape[axis] for tensor in outputs}
    if not isinstance(vector, int) and len(outputs) > 1:
        if len(sizes) == 1:
            pieces = vector.reshape(len(outputs), -1)
            trace.units.union(pieces, pieces[:1])
        else:
            trace.units.freeze(vector, "split into pieces of fixed, unequal sizes")
    move(trace, func, args, kwargs, outputs)


def positional(trace: Trace, func: Any, args: Args, kwargs: Kwargs, outputs: Any) -> None:
    """Operators that address positions on one axis (select, slice, unbind, roll, flip, index along channels)."""
    name = func.overloadpacket.__name__
    view = trace.view_of(args[0])
    if view is not None and name == "slice" and _move_view(trace, name, view, args, outputs):
        return
    shadow = trace.shadow(args[0])
    addressed = {axis % args[0].dim() for axis in _addressed_axes(name, args, kwargs)} & set(shadow.varying)
    if name == "slice" and outputs.shape == args[0].shape:
        addressed = set()
    if set(shadow.varying) - addressed:
        merged_along(shadow, sorted(addressed), trace.units)
    elif addressed:
        trace.units.freeze(shadow.labels(), f"addressed by position ({name})")
    move(trace, func, args, kwargs, outputs)


def _addressed_axes(name: str, args: Args, kwargs: Kwargs) -> Sequence[int]:
    if name == "index":
        return [axis for axis, index in enumerate(args[1]) if index is not None]
    if name in ("roll", "flip"):
        axes = (args[2] if len(args) > 2 else kwargs.get("dims", ())) if name == "roll" else args[1]
        return list(axes) or list(range(args[0].dim()))
    return [args[1] if len(args) > 1 else kwargs.get("dim", 0)]


def pad(trace: Trace, func: Any, args: Args, kwargs: Kwargs, outputs: Tensor) -> None:
    """Padding: of an axis without channels it changes nothing; along channels the new positions are fixed."""
    shadow = trace.shadow(args[0])
    core = shadow.core
    for index in range(len(args[1]) // 2):
        axis = args[0].dim() - 1 - index
        before, after = args[1][2 * index : 2 * index + 2]
        if core.size(axis) > 1 and (before or after):
            label = trace.units.new_fixed("padded with a fixed number of channels")
            pieces = [_filled(core, axis, before, label), core, _filled(core, axis, after, label)]
            core = torch.cat(pieces, axis)
    trace.set_shadow(outputs, Shadow(core, tuple(outputs.shape)).resolved(trace.units))


def _filled(core: Tensor, axis: int, length: int, label: int) -> Tensor:
    shape = list(core.shape)
    shape[axis] = max(length, 0)
    return torch.full(shape, label, dtype=torch.int64)


def pointwise(trace: Trace, func: Any, args: Args, kwargs: Kwargs, outputs: Any) -> None:
    """Element-wise operators: elements that meet go together."""
    name = func.overloadpacket.__name__.removesuffix("_")
    operands = [value for value in tree_iter((args, kwargs)) if isinstance(value, Tensor)]
    if name == "copy" and len(operands) == 2:
        return written_in_place(trace, func, args, kwargs, outputs)
    output: Tensor = _tensors(outputs)[0]
    shape = tuple(output.shape)
    shadows = [_broadcast(trace.shadow(operand), shape) for operand in operands]
    result = Shadow.neutral(shape)
    if name in ("add", "sub"):
        _mark_sum(trace, [shadow for shadow, _ in shadows])
    for shadow in shadows:
        result = _combined(trace, result, shadow)
    for tensor in _tensors(outputs):
        trace.set_shadow(tensor, trace.settled(result.with_shape(tensor.shape)))
    if name == "add" and len(operands) == 2:
        _note_sum(trace, operands)
    return None


def _broadcast(shadow: Shadow, shape: tuple[int, ...]) -> tuple[Shadow, tuple[int, ...]]:
    """Aligns a shadow with the shape of the result; also returns the axes along which its tensor is repeated."""
    missing = len(shape) - len(shadow.shape)
    core = shadow.core.reshape((1,) * missing + tuple(shadow.core.shape))
    own = (1,) * missing + shadow.shape
    return Shadow(core, shape), tuple(axis for axis, size in enumerate(shape) if own[axis] == 1 and size > 1)


def _combined(trace: Trace, result: Shadow, operand: tuple[Shadow, tuple[int, ...]]) -> Shadow:
    shadow, repeated = operand
    if any(result.core.size(axis) > 1 for axis in repeated):
        trace.units.freeze(shadow.labels(), "broadcast over the channels of another activation")
        return result
    trace.units.union(result.core.numpy(), shadow.core.numpy())
    labels = torch.where(result.core != 0, result.core, shadow.core)
    return Shadow(labels, result.shape).resolved(trace.units)


def _mark_sum(trace: Trace, shadows: list[Shadow]) -> None:
    """Marks channels that are summed from two layers as a residual stream (a bias per attention head is none)."""
    units = trace.units
    written = [shadow for shadow in shadows if units.marked(shadow.labels(), "written")]
    if len(written) > 1 and not any(units.marked(shadow.labels(), "heads") for shadow in written):
        units.mark(written[0].labels(), "residual")


def _note_sum(trace: Trace, operands: list[Tensor]) -> None:
    """Counts additions of two activations and notes which layers feed them."""
    for position, operand in enumerate(operands):
        producer = trace.producer(operand)
        if producer is not None:
            producer.reader = ("sum", (trace.sums, position))
    trace.sums += trace.counting


def written_in_place(trace: Trace, func: Any, args: Args, kwargs: Kwargs, outputs: Any) -> None:
    """Writing into a part of another tensor: its positions are fixed by the code."""
    trace.units.freeze(trace.shadow(args[1]).labels(), "written into a tensor of fixed size")
    trace.set_shadow(args[0], Shadow.neutral(args[0].shape))


def created(trace: Trace, func: Any, args: Args, kwargs: Kwargs, outputs: Any) -> None:
    """Operators that make a new tensor with the shape of another (`zeros_like`): it belongs to no channel."""
    trace.set_shadow(outputs, Shadow.neutral(outputs.shape))


def restrided(trace: Trace, func: Any, args: Args, kwargs: Kwargs, outputs: Tensor) -> None:
    """Changes of the memory layout alone; anything else that `as_strided` can do counts on fixed positions."""
    shadow = trace.shadow(args[0])
    if outputs.shape != torch.Size(shadow.shape):
        trace.units.freeze(shadow.labels(), "addressed by position (as_strided)")
        shadow = Shadow.neutral(outputs.shape)
    trace.set_shadow(outputs, shadow)


def spatial(trace: Trace, func: Any, args: Args, kwargs: Kwargs, outputs: Any) -> None:
    """Pooling and resizing: everything but the last axes stays."""
    shadow = trace.shadow(args[0])
    output: Tensor = _tensors(outputs)[0]
    kept_axes = min(2, args[0].dim() - 1)
    if any(axis >= kept_axes for axis in shadow.varying):
        trace.units.freeze(shadow.labels(), "pooled or resized along the channels")
        shadow = Shadow.constant(trace.units.new_fixed("pooled or resized along the channels"), shadow.shape)
    for tensor in _tensors(outputs):
        trace.set_shadow(tensor, shadow.with_shape(output.shape))


def reduce(trace: Trace, func: Any, args: Args, kwargs: Kwargs, outputs: Any) -> None:
    """Reductions over axes without channels keep the labels; over channels they count on all of them."""
    dims = _reduced_axes(func.overloadpacket.__name__, args)
    shadow = trace.shadow(args[0])
    crossed = [axis for axis in shadow.varying if axis in dims]
    if crossed:
        trace.units.freeze(shadow.labels(), f"reduced over the channels ({func.overloadpacket.__name__})")
    core = shadow.core
    for axis in crossed:
        core = core.amax(axis, keepdim=True) * 0
    for tensor in _tensors(outputs):
        keep = tensor.dim() == args[0].dim()
        kept = core if keep else core.reshape([size for axis, size in enumerate(core.shape) if axis not in dims])
        trace.set_shadow(tensor, Shadow(kept, tuple(tensor.shape)).resolved(trace.units))


def _reduced_axes(name: str, args: Args) -> list[int]:
    rank = args[0].dim()
    position = 2 if name in ("linalg_vector_norm", "norm") else 1
    dims = args[position] if len(args) > position else None
    if isinstance(dims, int):
        dims = [dims]
    return [axis % rank for axis in dims] if dims else list(range(rank))


def softmax(trace: Trace, func: Any, args: Args, kwargs: Kwargs, outputs: Tensor) -> None:
    """Softmax: fine along axes without channels."""
    shadow = trace.shadow(args[0])
    axis = args[1] % args[0].dim()
    if axis in shadow.varying:
        trace.units.freeze(shadow.labels(), "normalised by a softmax over the channels")
    trace.set_shadow(outputs, shadow)


def passed_producer(trace: Trace, source: Tensor, result: Tensor, module: str) -> None:
    """Notes that a batch norm reads a layer's output, so that the sum behind it can be found."""
    producer = trace.producer(source)
    if producer is not None:
        producer.reader = ("batch_norm", module)
        producer.followed = Producer(producer.layer)
        trace.produced(result, producer.followed)


def _tensors(value: Any) -> list[Tensor]:
    return [item for item in tree_iter(value) if isinstance(item, Tensor)]


Rule = Callable[[Trace, Any, Args, Kwargs, Any], None]


def _table() -> dict[str, Rule]:
    moves = (
        "permute transpose t expand unsqueeze squeeze cat stack detach alias repeat channel_shuffle "
        "_to_copy clone contiguous lift_fresh native_channel_shuffle repeat_interleave unfold"
    )
    table: dict[str, Rule] = dict.fromkeys(moves.split(), move)
    table |= dict.fromkeys("view _unsafe_view reshape _reshape_alias".split(), reshape)
    table |= dict.fromkeys("select slice unbind roll flip index index_select".split(), positional)
    table |= dict.fromkeys("split split_with_sizes chunk".split(), split)
    pools = (
        "max_pool2d_with_indices avg_pool2d _adaptive_avg_pool2d adaptive_max_pool2d max_pool1d avg_pool1d "
        "max_pool3d_with_indices avg_pool3d _adaptive_avg_pool3d adaptive_avg_pool1d reflection_pad2d "
        "replication_pad2d upsample_nearest2d upsample_bilinear2d upsample_bicubic2d _upsample_nearest_exact2d "
        "upsample_nearest1d upsample_linear1d upsample_trilinear3d upsample_nearest3d"
    )
    table |= dict.fromkeys(pools.split(), spatial)
    table |= dict.fromkeys("mean sum amax amin var std linalg_vector_norm norm argmax max min".split(), reduce)
    table |= dict.fromkeys("hardswish hardsigmoid leaky_relu elu rrelu_with_noise".split(), pointwise)
    creators = "empty_like zeros_like ones_like rand_like randn_like full_like new_zeros new_empty new_ones new_full"
    table |= dict.fromkeys(creators.split(), created)
    return table | {
        "as_strided": restrided,
        "_softmax": softmax,
        "_log_softmax": softmax,
        "constant_pad_nd": pad,
        "pixel_shuffle": pixel_shuffle,
    }


RULES: dict[str, Rule] = _table()
