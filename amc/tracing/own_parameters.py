"""Parameters that a network adds or multiplies by itself: which of their axes goes with channels."""

from __future__ import annotations

import numpy as np
import torch

from amc.tracing.record import Trace
from amc.tracing.shadow import Shadow
from amc.tracing.units import NEUTRAL, Labels


def settle_parameters(trace: Trace) -> None:
    """Finds, for parameters that took part in arithmetic, the axis that goes with channels."""
    everything = trace.units.find(np.arange(trace.units.count)) if trace.element_labels else np.zeros(1, dtype=np.int64)
    sizes = np.bincount(everything, minlength=trace.units.count)
    for name, labels in trace.element_labels.items():
        _settle_unused(trace, labels, sizes)
        shadow = Shadow(torch.from_numpy(labels), labels.shape).resolved(trace.units)
        varying = shadow.varying
        if len(varying) == 1:
            vector = shadow.vector(varying[0])
            key = (name, varying[0])
            if key in trace.axis_labels:
                trace.units.union(trace.axis_labels[key], vector)
            assert not isinstance(vector, int)
            trace.axis_labels.setdefault(key, vector)
            trace.roles.setdefault(key, "follow")
        else:
            trace.units.freeze(shadow.labels(), f"meets the parameter {name!r} on several of its axes or on none")


def _settle_unused(trace: Trace, labels: Labels, sizes: Labels) -> None:
    """Assigns unused elements, such as positions beyond the example's, to the rest of their axis.

    That is the last axis along which the elements in use differ.

    Args:
        trace: A finished run.
        labels: Labels of a parameter's elements.
        sizes: How many labels every class has, by its representative.
    """
    classes = trace.units.find(labels)
    unused = sizes[classes] == 1
    if not unused.any() or unused.all():
        return
    for axis in range(labels.ndim - 1, -1, -1):
        others = tuple(other for other in range(labels.ndim) if other != axis)
        leaders = np.where(unused, -1, classes).max(axis=others, keepdims=True)
        if (unused | (classes == leaders)).all() and (leaders >= 0).all():
            trace.units.union(np.where(unused, labels, NEUTRAL), np.broadcast_to(leaders, labels.shape))
            return
