"""Rules of the operators that compute across channels: linear layers, products, attention, pooling.

Each rule also records the FLOPs that fvcore counts for the operator (one fused multiply-add is one), as a product
of axes, so that the count can be predicted for any widths.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
from torch import Tensor, nn

from amc.runtime.call import tensors_in
from amc.structure.weight_axes import axes_of_product
from amc.tracing.derived import keeps_zeros, settle_weight, weight_view
from amc.tracing.entries import Factor, LayerRecord, ParameterView
from amc.tracing.layer_records import pair_of, record_layer
from amc.tracing.record import Trace
from amc.tracing.rules_move import combined, pointwise, reduce, spatial
from amc.tracing.settling import settled
from amc.tracing.shadow import Shadow
from amc.tracing.units import Labels
from amc.tracing.weighted_products import weighted

Args = tuple[Any, ...]
Kwargs = dict[str, Any]

SUMMING_EINSUM = "einsum with a sum"
"""The name in `Trace.functions` of a running `einsum` that sums over an index which its operands share."""


def channels_of(trace: Trace, shadow: Shadow, axis: int, reader: str) -> Factor:
    """Returns the labels that a layer reads along its channel axis, freezing channels that lie on another axis."""
    others = [other for other in shadow.varying if other != axis]
    if others:
        trace.units.freeze(shadow.labels(), f"lies on another axis than the one that {reader} reads as channels")
        return shadow.shape[axis]
    if shadow.core.size(axis) == 1 and int(shadow.core.reshape(-1)[0]) > 0:
        trace.units.freeze(shadow.labels(), f"one channel for all that {reader} reads")
    return trace.units.find(vector) if not isinstance(vector := shadow.vector(axis), int) else vector


def computed_weight(trace: Trace, source: Tensor, weight: Tensor, output: Tensor) -> None:
    """A layer whose weight is computed at run time (weight standardisation, parametrisations) stays as it is."""
    left_alone(trace, source, weight, output, "the layer's weight is computed at run time")


def left_alone(trace: Trace, source: Tensor, weight: Tensor, output: Tensor, reason: str) -> None:
    """Freezes what a layer reads and writes."""
    trace.freeze_input(source, reason)
    trace.freeze_input(weight, reason)
    trace.set_shadow(output, Shadow.constant(trace.units.new_fixed(reason), output.shape))


def addmm(trace: Trace, func: Any, args: Args, kwargs: Kwargs, outputs: Tensor) -> None:
    """Linear layers with a bias, on `(rows, features)`."""
    bias, source, weight = args[:3]
    written = _linear(trace, source, weight, outputs)
    if written is not None and bias.dim() == 1:
        trace.follow(bias, written)
    else:
        result = combined(trace, [trace.shadow(outputs), trace.shadow(bias)], tuple(outputs.shape))
        trace.set_shadow(outputs, settled(trace, result))


def mm(trace: Trace, func: Any, args: Args, kwargs: Kwargs, outputs: Tensor) -> None:
    """Linear layers without a bias, and plain matrix products."""
    _linear(trace, args[0], args[1], outputs)


def linear(trace: Trace, func: Any, args: Args, kwargs: Kwargs, outputs: Tensor) -> None:
    """`aten.linear` where PyTorch does not decompose it."""
    weight = args[1].t()
    view = trace.view_of(args[1])
    if view is not None:
        trace.set_view(weight, ParameterView(view.name, view.axes[::-1], view.offsets[::-1]))
    written = _linear(trace, args[0], weight, outputs)
    if written is not None and len(args) > 2:
        trace.follow(args[2], written)


def _linear(trace: Trace, source: Tensor, weight: Tensor, outputs: Tensor) -> Labels | None:
    view = weight_view(trace, weight, transposed=True)
    if view is None:
        product(trace, None, (source, weight), {}, outputs)
        return None
    costs, shadow = len(trace.costs), trace.shadow(source)
    rows = [shadow.vector(axis) for axis in range(source.dim() - 1)]
    if weight.shape[0] == weight.shape[1] and set(shadow.varying) - {source.dim() - 1}:
        _mix_positions(trace, weight, view, shadow, outputs)
        return None
    read = channels_of(trace, shadow, source.dim() - 1, view.name)
    written = trace.written_by(view, 1, weight.shape[1])
    trace.tie(view, 0, read, "read")
    settle_weight(trace, weight, view, read, written)
    if isinstance(read, int):  # zeros, such as the first state of a recurrent cell, are as wide as the later states
        read = trace.labels_of(view, 0, weight.shape[0])
    if (repeated := _repeating(trace)) is not None:
        rows = [trace.shadow(repeated[1]).vector(repeated[1].dim() - 1)]
    trace.cost(1, *rows, read, written)
    trace.set_shadow(outputs, Shadow.along(trace.units.find(written), outputs.dim() - 1, outputs.shape))
    whole = trace.tensors[view.name].numel() == weight.numel()
    record = LayerRecord(
        weight=view.name,
        kind="linear" if whole else "attention",
        in_labels=read,
        out_labels=written,
        input_size=pair_of(source.shape[:-1]),
        in_channels=source.shape[-1],
        out_channels=len(written),
        costs=[*range(costs, len(trace.costs))],
        keeps_zeros=keeps_zeros(trace, weight, view),
        axes=axes_of_product(trace.tensors[view.name].dim(), view.axes[:1]),
    )
    record_layer(trace, record, outputs)
    if isinstance(trace.module, nn.Linear):
        trace.attribute(trace.modules[-1], "in_features", read)
        trace.attribute(trace.modules[-1], "out_features", written)
    return written


def _mix_positions(trace: Trace, weight: Tensor, view: ParameterView, source: Shadow, outputs: Tensor) -> None:
    """A layer from positions to as many positions, with channels on another axis, which stay what they are (gMLP)."""
    width, costs = source.shape[-1], len(trace.costs)
    trace.cost(1, *[source.vector(axis) for axis in range(len(source.shape) - 1)], width, width)
    trace.set_shadow(outputs, source.with_shape(outputs.shape))
    size, places = pair_of(source.shape[:-1]), [*range(costs, len(trace.costs))]
    record = LayerRecord(view.name, "linear", width, width, size, width, width, costs=places)
    record.keeps_zeros = keeps_zeros(trace, weight, view)
    record.axes = axes_of_product(trace.tensors[view.name].dim(), view.axes[:1])
    record_layer(trace, record, outputs)


def product(trace: Trace, func: Any, args: Args, kwargs: Kwargs, outputs: Tensor) -> None:
    """Matrix products of two activations, `(b, i, k)` by `(b, k, j)` or without `b`, or of one and a parameter."""
    repeated = _repeating(trace)
    if weighted(trace, args[:2], outputs, repeated):
        return
    left, right = trace.shadow(args[0]), trace.shadow(args[1])
    rank = len(left.shape)
    batch, i, k, j = left.shape[:-2], rank - 2, rank - 1, rank - 1
    read_left, read_right = left.vector(k), right.vector(rank - 2)
    factors: list[Factor] = [*(left.vector(axis) for axis in range(rank)), right.vector(j)]
    if repeated is not None:
        one, many = (trace.shadow(tensor) for tensor in repeated)
        factors = [*(one.vector(axis) for axis in range(len(one.shape))), many.vector(len(many.shape) - 1)]
    trace.cost(1, *factors)
    contracted = [vector for vector in (read_left, read_right) if not isinstance(vector, int)]
    if len(contracted) == 2:
        trace.units.union(contracted[0], contracted[1])
    elif contracted:
        trace.units.freeze(contracted[0], "multiplied with a matrix of fixed size")
    result = Shadow.neutral(outputs.shape)
    kept_left = _without(left, k, isinstance(read_left, int))
    kept_right = _without(right, rank - 2, isinstance(read_right, int))
    if kept_right.varying == (j,) and trace.units.marked(kept_left.labels(), "heads") and set(kept_left.varying) - {i}:
        trace.units.freeze(kept_right.labels(), "read by every head")  # keys and values that all heads share
        kept_right = Shadow.neutral(right.shape)
    if i in kept_left.varying and j in kept_right.varying:
        trace.units.freeze(kept_left.labels(), "outer product of two activations")
        trace.units.freeze(kept_right.labels(), "outer product of two activations")
    else:
        for kept in _meeting(kept_left, kept_right):
            trace.units.union(result.core.numpy(), kept.core.numpy())
            core = (result.core == 0) * kept.core + result.core
            result = Shadow(core, tuple(outputs.shape)).resolved(trace.units)
    assert len(batch) == rank - 2
    trace.set_shadow(outputs, settled(trace, result))


def _meeting(left: Shadow, right: Shadow) -> list[Shadow]:
    """Returns the operands of a product whose labels meet: rows of one and columns of the other do not.

    A graph's adjacency or a mask that is an input thus does not affect the features that it is multiplied with.
    """
    columns, rows = len(right.shape) - 1, len(left.shape) - 2
    if not left.varying and right.varying == (columns,):
        return [right]
    if not right.varying and left.varying == (rows,):
        return [left]
    return [left, right]


def _repeating(trace: Trace) -> tuple[Tensor, Tensor] | None:
    """Returns the operands of a running `matmul` that repeats the left one for a batch, of which fvcore counts one."""
    operands = trace.called_with("matmul", "__matmul__", "__rmatmul__")
    if operands is None or len(operands) != 2 or min(tensor.dim() for tensor in operands) < 2:
        return None
    left, right = operands[::-1] if "__rmatmul__" in trace.functions else operands
    batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    return (left, right) if prod(batch) > prod(left.shape[:-2]) else None


def _without(shadow: Shadow, axis: int, keep: bool) -> Shadow:
    """Returns a shadow with an axis summed away; its labels are dropped if they varied along that axis."""
    return shadow if keep else Shadow.neutral(shadow.shape)


def baddbmm(trace: Trace, func: Any, args: Args, kwargs: Kwargs, outputs: Tensor) -> None:
    """Matrix products plus a mask; fvcore does not count them."""
    counting, trace.counting = trace.counting, False
    product(trace, func, args[1:3], {}, outputs)
    trace.counting = counting
    result = combined(trace, [trace.shadow(outputs), trace.shadow(args[0])], tuple(outputs.shape))
    trace.set_shadow(outputs, settled(trace, result))


def attention(trace: Trace, func: Any, args: Args, kwargs: Kwargs, outputs: Any) -> None:
    """Scaled dot-product attention on `(batch, heads, length, width)`; fvcore does not count it."""
    query, key, value = (trace.shadow(tensor) for tensor in args[:3])
    for shadow in (query, key):
        if len(shadow.shape) - 1 in shadow.varying:
            trace.units.freeze(shadow.labels(), "the scale of attention depends on the width of a head")
    heads = len(query.shape) - 3
    masks = [trace.shadow(tensor) for tensor in tensors_in((args[3:], kwargs)) if tensor.dim() == len(query.shape)]
    vectors = [vector for s in (query, key, value, *masks) if not isinstance(vector := s.vector(heads), int)]
    for vector in vectors[1:]:  # several heads in a row may share keys and values
        trace.units.union(vectors[0], np.repeat(vector, len(vectors[0]) // len(vector)))
    output = outputs[0] if isinstance(outputs, tuple) else outputs
    result = value.resolved(trace.units)
    if vectors:
        each = np.repeat(vectors[0], output.shape[heads] // len(vectors[0]))
        result = Shadow.along(trace.units.find(each), heads, output.shape)
    trace.set_shadow(output, result.with_shape(output.shape))


def embedding(trace: Trace, func: Any, args: Args, kwargs: Kwargs, outputs: Tensor) -> None:
    """Embeddings: a layer that writes channels and reads none."""
    view = trace.view_of(args[0])
    if view is None:
        return computed_weight(trace, args[1], args[0], outputs)
    written = trace.written_by(view, 1, args[0].shape[1])
    trace.set_shadow(outputs, Shadow.along(trace.units.find(written), outputs.dim() - 1, outputs.shape))
    trace.attribute(view.name.rpartition(".")[0], "embedding_dim", written)
    numbers, width = args[0].shape
    size = pair_of(args[1].shape)
    record = LayerRecord(view.name, "embedding", numbers, written, size, in_channels=numbers, out_channels=width)
    record_layer(trace, record, outputs)
    return None


def adaptive_or_mean(rule: Callable[..., None]) -> Callable[..., None]:
    """Adds the FLOPs of adaptive average pooling to the rule of the operator that it runs."""

    def wrapped(trace: Trace, func: Any, args: Args, kwargs: Kwargs, outputs: Any) -> None:
        rule(trace, func, args, kwargs, outputs)
        # Resizing with the mode "area" runs it too; on sequences and volumes fvcore does not count it.
        resized = trace.called_with("interpolate")
        if "adaptive_avg_pool2d" in trace.functions or (resized and resized[0].dim() == 4):
            trace.cost_per_element(1, trace.shadow(args[0]))

    return wrapped


def multiplied(trace: Trace, func: Any, args: Args, kwargs: Kwargs, outputs: Tensor) -> None:
    """Element-wise products; an `einsum` that sums over a single element runs as one."""
    pointwise(trace, func, args, kwargs, outputs)
    if SUMMING_EINSUM in trace.functions:
        trace.cost_per_element(1, trace.shadow(outputs))


def upsample(factor: int, rule: Callable[..., None]) -> Callable[..., None]:
    """Adds the FLOPs of resizing, `factor` per element of the output."""

    def wrapped(trace: Trace, func: Any, args: Args, kwargs: Kwargs, outputs: Any) -> None:
        rule(trace, func, args, kwargs, outputs)
        trace.cost_per_element(factor, trace.shadow(outputs))

    return wrapped


def grid_sample(trace: Trace, func: Any, args: Args, kwargs: Kwargs, outputs: Tensor) -> None:
    """Sampling at places that the network computes, as in spatial transformers: channels keep their identity."""
    trace.freeze_activation(args[1], "tells where to sample")
    spatial(trace, func, args, kwargs, outputs)
    trace.cost_per_element(4, trace.shadow(outputs))


ATTENTIONS = """_scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_flash_attention
    _scaled_dot_product_efficient_attention _scaled_dot_product_cudnn_attention
    _scaled_dot_product_fused_attention_overrideable scaled_dot_product_attention"""

RULES: dict[str, Callable[..., None]] = {
    **dict.fromkeys(ATTENTIONS.split(), attention),
    "addmm": addmm,
    "mm": mm,
    "linear": linear,
    "bmm": product,
    "baddbmm": baddbmm,
    "embedding": embedding,
    "mul": multiplied,
    "mean": adaptive_or_mean(reduce),
    "_adaptive_avg_pool2d": adaptive_or_mean(spatial),
    "grid_sampler_2d": grid_sample,
    "grid_sampler_3d": grid_sample,
    "upsample_nearest2d": upsample(1, spatial),
    "upsample_bilinear2d": upsample(4, spatial),
}
