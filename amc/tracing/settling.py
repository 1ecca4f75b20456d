"""Which axis of a tensor keeps its channels where labels vary along several."""

from __future__ import annotations

from amc.tracing.record import Trace
from amc.tracing.remembered_shapes import head_attributes, heads_axis
from amc.tracing.shadow import Shadow, merged_along


def settled(trace: Trace, shadow: Shadow) -> Shadow:
    """Couples labels until they vary along only one axis, so that the result of a cut is still a box.

    Of several axes the one that counts attention heads is kept (a module's own number of heads tells), else the
    one with the most labels: that of the channels, not of the pieces, pixels or groups beside them. Of several
    with as many that is the last of two (groups come first), and the first of more (a map's height and width come
    last).
    """
    varying = shadow.varying
    if len(varying) < 2:
        return shadow
    heads = heads_axis(trace, shadow)
    keep = _with_most_labels(shadow) if heads is None else heads
    shadow = merged_along(shadow, [axis for axis in varying if axis != keep], trace.units)
    if heads is not None:
        vector = shadow.vector(heads)
        trace.units.mark(shadow.labels(), "heads")
        for attribute in head_attributes(trace, shadow.shape[heads]):
            trace.attribute(trace.modules[-1], attribute, vector)
    return shadow


def _with_most_labels(shadow: Shadow) -> int:
    """Returns which of the axes along which labels vary has the most labels; see `settled`.

    Of a map `(N, C, H, W)` or `(N, H, W, C)` that is as high as wide, that is the axis of another length.
    """
    axes, shape = shadow.varying, shadow.shape
    if axes == (1, 2, 3) and len(shape) == 4 and len(set(shape[1:])) == 2:
        return next(axis for axis in axes if shape[1:].count(shape[axis]) == 1)
    return max(axes[::-1] if len(axes) == 2 else axes, key=lambda axis: _labels_along(shadow, axis))


def _labels_along(shadow: Shadow, axis: int) -> int:
    """Returns how many labels meet along an axis: of a class token beside the tokens of patches two, however many."""
    rising = shadow.core.sort(axis).values
    return 1 + int(rising.diff(dim=axis).ne(0).sum(axis).max())
