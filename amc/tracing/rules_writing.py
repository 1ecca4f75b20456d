"""Rules of operators that write channels into other tensors, item by item, and that lay out padded sequences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from amc.tracing.record import Trace
from amc.tracing.shadow import Shadow

WRITTEN = "written into a part of the channels of a tensor of fixed size; torch.cat in its place would let it be cut"
"""Why channels stay whole that are written beside others."""

Args = tuple[Any, ...]
Kwargs = dict[str, Any]


def written_in_place(trace: Trace, func: Any, args: Args, kwargs: Kwargs, outputs: Any) -> None:
    """Writing into a part of another tensor: of a step, an image, a place on a map; parts of the channels are fixed.

    What is written has to fill the tensor along its channels (`out[:, step] = state`, as PyTorch pads packed sequences,
    too). Whether the tensor is then made as wide as its channels are after a cut, a trial tells.
    """
    target, source = args[:2]
    base = target if target._base is None else target._base
    written, own = _in_whole(trace.shadow(source), source, target, base), trace.view_of(base)
    if written is None or own is not None or not _agrees(trace, trace.shadow(base), written):
        reason = WRITTEN if own is None else f"written into {own.name!r}, which the network keeps"
        trace.units.freeze(trace.shadow(source).labels(), reason)
        trace.set_shadow(target, Shadow.neutral(target.shape))
        return
    trace.pass_writers([source, base], [base])
    trace.set_shadow(base, written.resolved(trace.units))
    if target is not base:
        trace.set_shadow(target, trace.shadow(source).with_shape(target.shape))


def _in_whole(shadow: Shadow, source: Tensor, target: Tensor, base: Tensor) -> Shadow | None:
    """Returns the labels of a tensor of whose axes one is filled by what is written; None if there is no such axis.

    Args:
        shadow: The labels of what is written.
        source: What is written.
        target: The part of the tensor that it is written to.
        base: The tensor.
    """
    if len(shadow.varying) != 1 or source.shape != target.shape:
        return None
    (axis,) = shadow.varying
    place = (target.stride(axis), target.shape[axis])
    filled = [each for each in range(base.dim()) if (base.stride(each), base.shape[each]) == place]
    labels = shadow.vector(axis)
    return None if len(filled) != 1 or isinstance(labels, int) else Shadow.along(labels, filled[0], tuple(base.shape))


def _agrees(trace: Trace, before: Shadow, written: Shadow) -> bool:
    """Couples what is written with what stands there already; returns whether both have their channels on one axis."""
    if before.is_neutral:
        return True
    if before.varying != written.varying:
        return False
    trace.units.union(before.labels(), written.labels())
    return True


def packed(trace: Trace, func: Any, args: Args, kwargs: Kwargs, outputs: Any) -> None:
    """Packing of padded sequences: the steps of all of them become rows, each with its channels."""
    steps, counts = outputs
    shadow = trace.shadow(args[0])
    assert not {0, 1} & set(shadow.varying), "channels along the steps"
    trace.set_shadow(steps, Shadow(shadow.core.squeeze(0), tuple(steps.shape)))
    trace.set_shadow(counts, Shadow.neutral(counts.shape))


RULES: dict[str, Callable[..., None]] = {"copy": written_in_place, "_pack_padded_sequence": packed}
