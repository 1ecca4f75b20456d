"""Rules of the norms: their parameters and statistics follow the channels that they normalise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from amc.tracing.record import Trace
from amc.tracing.rules_compute import channels_of
from amc.tracing.shadow import merged_along

Args = tuple[Any, ...]
Kwargs = dict[str, Any]


def batch_norm(trace: Trace, func: Any, args: Args, kwargs: Kwargs, outputs: Any) -> None:
    """Batch norm: its parameters and statistics follow the channels.

    Instance norm runs as a batch norm too, with the images as further channels.
    """
    source, weight = args[0], args[1]
    shadow = trace.shadow(source)
    vector = channels_of(trace, shadow, 1, "a batch norm")
    for tensor in args[1:5]:
        if isinstance(tensor, Tensor):
            trace.follow(tensor, vector)
    output = outputs[0] if isinstance(outputs, (tuple, list)) else outputs
    trace.set_shadow(output, shadow.with_shape(output.shape))
    trains = next((value for value in args[3:] if isinstance(value, bool)), False)
    own_statistics = trains or "instance_norm" in trace.functions  # fvcore counts instance norms alike with either
    trace.cost_per_element((4 if own_statistics else 1) + (weight is not None), shadow)
    trace.attribute(trace.modules[-1], "num_features", vector)
    view = trace.view_of(weight) if weight is not None else None
    if view is not None:
        name, producer = view.name.rpartition(".")[0], trace.producer(source)
        trace.norm_calls[name] += trace.counting
        if producer is not None:
            producer.batch_norm = name


def layer_norm(trace: Trace, func: Any, args: Args, kwargs: Kwargs, outputs: Any) -> None:
    """Layer norm over the last axis: a statistic over all channels, so removing some changes the rest."""
    source, normalized_shape, weight, bias = args[:4]
    trace.cost_per_element(5 if weight is not None else 4, trace.shadow(source))
    _normalise_last(trace, source, normalized_shape, [weight, bias])
    trace.set_shadow(outputs[0], trace.shadow(source))


def rms_norm(trace: Trace, func: Any, args: Args, kwargs: Kwargs, outputs: Any) -> None:
    """Root-mean-square norm over the last axis, as layer norm; fvcore does not count it."""
    _normalise_last(trace, args[0], args[1], [args[2]])
    trace.set_shadow(outputs[0], trace.shadow(args[0]))


def _normalise_last(trace: Trace, source: Tensor, normalized_shape: Any, affine: list[Tensor | None]) -> None:
    shadow = trace.shadow(source)
    if len(normalized_shape) != 1:
        trace.units.freeze(shadow.labels(), "layer norm over several axes")
    elif not isinstance(vector := shadow.vector(source.dim() - 1), int):
        trace.units.mark(vector, "normalised")
        for tensor in affine:
            trace.follow(tensor, vector)
        trace.attribute(trace.modules[-1], "normalized_shape", vector)


def group_norm(trace: Trace, func: Any, args: Args, kwargs: Kwargs, outputs: Any) -> None:
    """Group norm: every group loses channels at the same places."""
    source, weight, bias, groups = args[0], args[1], args[2], int(args[6])
    shadow = trace.shadow(source)
    vector = channels_of(trace, shadow, 1, "a group norm")
    if not isinstance(vector, int):
        by_group = vector.reshape(groups, -1)
        trace.units.union(by_group, by_group[:1])
        trace.units.mark(vector, "normalised")
        for tensor in (weight, bias):
            trace.follow(tensor, vector)
        trace.attribute(trace.modules[-1], "num_channels", vector)
    trace.cost_per_element(5 if weight is not None else 4, trace.shadow(source))
    trace.set_shadow(outputs[0], merged_along(shadow, [], trace.units))


BATCH_NORMS = """native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training cudnn_batch_norm
    miopen_batch_norm _batch_norm_with_update _batch_norm_no_update"""

RULES: dict[str, Callable[..., None]] = {
    **dict.fromkeys(BATCH_NORMS.split(), batch_norm),
    "native_layer_norm": layer_norm,
    "_fused_rms_norm": rms_norm,
    "native_group_norm": group_norm,
}
