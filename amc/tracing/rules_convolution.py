"""Rules of convolutions of any dimension: grouped, depthwise, transposed and deformable ones included."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
from torch import Tensor, nn

from amc.structure.weight_axes import axes_of_convolution
from amc.tracing.derived import keeps_zeros, settle_weight, weight_view
from amc.tracing.entries import Factor, LayerRecord, ParameterView
from amc.tracing.layer_records import pair_of, record_layer
from amc.tracing.record import Trace
from amc.tracing.rules_compute import channels_of, computed_weight, left_alone
from amc.tracing.shadow import Shadow
from amc.tracing.units import Labels

Args = tuple[Any, ...]
Kwargs = dict[str, Any]


def convolution(trace: Trace, func: Any, args: Args, kwargs: Kwargs, outputs: Tensor) -> None:
    """Convolutions of any dimension, grouped, depthwise and transposed ones included."""
    source, weight, bias, stride, _, _, transposed, _, groups = args[:9]
    costs = len(trace.costs)
    view = weight_view(trace, weight)
    positions = prod(source.shape[2:]) if transposed else prod(outputs.shape[2:])
    kernel = prod(weight.shape[2:])
    if view is None:
        trace.cost(prod(weight.shape) * positions * source.shape[0])
        return computed_weight(trace, source, weight, outputs)
    read = channels_of(trace, trace.shadow(source), 1, view.name)
    if groups == 1:
        read_axis, write_axis = (0, 1) if transposed else (1, 0)
        written = trace.written_by(view, write_axis, weight.shape[write_axis])
        trace.tie(view, read_axis, read, "read")
        trace.cost(kernel * positions * source.shape[0], written, read)
    elif transposed:
        written = _grouped_transposed(trace, view, weight, read, groups, kernel * positions * source.shape[0])
    else:
        written = _grouped(trace, view, weight, read, groups, kernel * positions * source.shape[0])
    settle_weight(trace, weight, view, read, written)
    trace.follow(bias, written)
    trace.set_shadow(outputs, Shadow.along(trace.units.find(written), 1, outputs.shape))
    record = LayerRecord(
        weight=view.name,
        kind="depthwise" if groups > 1 and weight.shape[1] == 1 else "conv",
        in_labels=read,
        out_labels=written,
        kernel_size=pair_of(weight.shape[2:]),
        stride=pair_of(stride),
        input_size=pair_of(source.shape[2:]),
        in_channels=source.shape[1],
        out_channels=len(written),
        costs=[*range(costs, len(trace.costs))],
        keeps_zeros=keeps_zeros(trace, weight, view),
        axes=axes_of_convolution(view.axes, transposed=transposed, groups=groups),
    )
    record_layer(trace, record, outputs)
    if isinstance(trace.module, nn.modules.conv._ConvNd):
        trace.attribute(trace.modules[-1], "in_channels", read)
        trace.attribute(trace.modules[-1], "out_channels", written)
    return None


def _grouped(trace: Trace, view: ParameterView, weight: Tensor, read: Factor, groups: int, cost: int) -> Labels:
    """Couples the channels of a grouped convolution and returns the labels that it writes.

    With many small groups whole groups are the unit (depthwise convolutions are the extreme); with few large ones
    every group loses channels at the same places.
    """
    out_channels, in_per_group = weight.shape[:2]
    written = trace.written_by(view, 0, out_channels)
    by_group = written.reshape(groups, -1)
    if isinstance(read, int):
        trace.units.freeze(written, "convolution in groups over channels that stay")
        trace.cost(cost * in_per_group, written)
        return written
    read_by_group = read.reshape(groups, -1)
    if groups >= max(in_per_group, out_channels // groups):
        for block in (by_group, read_by_group):
            trace.units.union(block, by_group[:, :1])
        trace.roles[view.name, 0] = "follow" if in_per_group == 1 else "write"
        trace.cost(cost * in_per_group, written)
        trace.attribute(trace.modules[-1], "groups", by_group[:, 0])
        return written
    for block in (by_group, read_by_group):
        trace.units.union(block, block[:1])
    trace.tie(view, 1, read_by_group[0], "read")
    trace.cost(cost, written, read_by_group[0])
    return written


def _grouped_transposed(
    trace: Trace, view: ParameterView, weight: Tensor, read: Factor, groups: int, cost: int
) -> Labels:
    """Couples the channels of a transposed convolution in groups, as `_grouped` does, and returns the labels it writes.

    Its weight has the channels that it reads on the first axis, and those that a group writes on the second.
    """
    in_channels, out_per_group = weight.shape[:2]
    few = groups < max(in_channels // groups, out_per_group)
    if isinstance(read, int) or few:
        own = trace.written_by(view, 1, out_per_group)
    if isinstance(read, int):
        trace.units.freeze(own, "convolution in groups over channels that stay")
        trace.cost(cost * out_per_group * in_channels)
        return np.tile(own, groups)
    by_group = read.reshape(groups, -1)
    if few:
        trace.tie(view, 0, read, "read")
        trace.units.union(by_group, by_group[:1])
        trace.cost(cost, own, read)
        return np.tile(own, groups)
    trace.tie(view, 0, read, "follow" if groups == in_channels else "read")
    trace.units.union(by_group, by_group[:, :1])
    trace.cost(cost * out_per_group, read)
    trace.attribute(trace.modules[-1], "groups", by_group[:, 0])
    return np.repeat(by_group[:, 0], out_per_group)


def deformable(trace: Trace, func: Any, args: Args, kwargs: Kwargs, outputs: Tensor) -> None:
    """Deformable convolutions; fvcore does not count them.

    Channels that are sampled at places of their own (several offset groups) go alike in each of these groups.
    """
    source, weight, offset, mask, bias = args[:5]
    view, groups, offset_groups = weight_view(trace, weight), args[11], args[12]
    for tensor in (offset, mask):
        trace.freeze_activation(tensor, "tells where to sample")
    if view is None:
        return left_alone(trace, source, weight, outputs, "the layer's weight is computed at run time")
    read = channels_of(trace, trace.shadow(source), 1, view.name)
    if not isinstance(read, int):
        by_place = read.reshape(offset_groups, -1)
        trace.units.union(by_place, by_place[:1])
    if groups > 1:
        written = _grouped(trace, view, weight, read, groups, 0)
    else:
        written = trace.written_by(view, 0, weight.shape[0])
        trace.tie(view, 1, read, "read")
    trace.follow(bias, written)
    trace.set_shadow(outputs, Shadow.along(trace.units.find(written), 1, outputs.shape))
    record = LayerRecord(
        weight=view.name,
        kind="conv",
        in_labels=read,
        out_labels=written,
        kernel_size=pair_of(weight.shape[2:]),
        stride=pair_of(args[5:7]),
        input_size=pair_of(source.shape[2:]),
        in_channels=source.shape[1],
        out_channels=len(written),
        keeps_zeros=keeps_zeros(trace, weight, view),
        axes=axes_of_convolution(view.axes),
    )
    record_layer(trace, record, outputs)
    trace.attribute(trace.modules[-1], "in_channels", read)
    trace.attribute(trace.modules[-1], "out_channels", written)
    return None


RULES: dict[str, Callable[..., None]] = {
    **dict.fromkeys(("convolution", "_convolution"), convolution),
    "deform_conv2d": deformable,
}
