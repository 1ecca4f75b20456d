"""Tensors that get their channels by being written into: `out = torch.zeros(...)`, `out[:, :8] = layer(x)`.

Such a tensor belongs to no channel until something is written into it, in whole or in part. Then it gets the channels
of what is written, and so do all views of it. Its other channels, if there are any, get labels that no layer writes:
they stay, or become those of what is written there later.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from amc.runtime.memory_key import memory_key
from amc.tracing.entries import Canvas
from amc.tracing.pieces import note_bounds, note_whole, places_of_length
from amc.tracing.record import Trace
from amc.tracing.rules_move import CREATORS, start_of
from amc.tracing.shadow import Shadow
from amc.tracing.units import Labels
from amc.tracing.views import Place, place_in

WRITTEN = "written into a part of the channels of a tensor of fixed size; torch.cat in its place would let it be cut"
"""Why channels stay whole that are written beside others."""

MAKERS = frozenset(["zeros", "empty", "ones", "full", "new_zeros", "new_empty", "new_ones", "new_full"])
"""Operators that make a tensor from sizes."""


def is_blank(trace: Trace, tensor: Tensor) -> bool:
    """Returns whether a tensor holds nothing that a layer has computed, though it may be as wide as what one has."""
    canvas = trace.canvases.get(memory_key(tensor))
    if canvas is not None:
        return canvas.is_blank
    return trace.view_of(tensor) is None and trace.shadow(tensor).is_neutral


def leaves_apart(trace: Trace, tensor: Tensor, axis: int, bounds: tuple[int, int]) -> bool:
    """Returns whether the parts of a tensor are written, or to be written, each for itself: they share no places.

    Args:
        trace: What is known so far.
        tensor: What is sliced.
        axis: The axis of the slice, along which its channels lie.
        bounds: Where the slice starts and ends.
    """
    canvas = trace.canvases.get(memory_key(tensor))
    if canvas is None:
        return False
    length = tensor.shape[axis]
    inner = {bound for bound in bounds if 0 < bound < length}
    if canvas.written is not None and (not canvas.written.all() or inner <= canvas.borders):
        return True
    widths = _widths_asked(trace)
    return all(widths & {bound, length - bound, bounds[1] - bounds[0]} for bound in inner)


def _widths_asked(trace: Trace) -> set[int]:
    """Returns how many channels those tensors have which the running module has asked for their shapes."""
    shadows = (trace.shadow(tensor) for (module, *_), tensor in trace.asked.items() if module == trace.modules[-1])
    return {shadow.shape[axis] for shadow in shadows for axis in shadow.varying}


def note(trace: Trace, name: str, args: tuple[Any, ...], outputs: Any) -> None:
    """Notes a tensor that was just made, or the slice of one, before it is known what is written there."""
    if name in MAKERS and trace.shadow(outputs).is_neutral:
        _note_made(trace, outputs)
    elif name in CREATORS:
        trace.canvases[memory_key(outputs)] = Canvas({})
    elif name == "slice":
        axis = args[1] % args[0].dim() if len(args) > 1 else 0
        _note_sliced(trace, outputs, args[0], axis, start_of(args, args[0].shape[axis]))


def _note_made(trace: Trace, tensor: Tensor) -> None:
    """Notes what modules and their code know of a tensor's sizes; they may be another's (`B, N, C = x.shape`)."""
    if (shadow := _shadow_of_asked(trace, tensor)) is not None:
        trace.set_shadow(tensor, shadow)
        trace.canvases[memory_key(tensor)] = Canvas({})
        return
    if tensor.dim() > 1:
        trace.made.add(tensor.shape[1 if tensor.dim() > 3 else -1])
    lengths = {length: places_of_length(trace, length) for length in set(tensor.shape) if length > 1}
    trace.canvases[memory_key(tensor)] = Canvas(lengths)


def _shadow_of_asked(trace: Trace, tensor: Tensor) -> Shadow | None:
    """Returns the labels of a tensor that was asked for its shape, if a new one has the same, or the same rows."""
    asked = trace.asked.get((trace.modules[-1], tensor.shape[-1:].numel(), tensor.numel()))
    if asked is None or trace.view_of(asked) is not None or tensor.dim() < 2:
        return None
    shadow, last = trace.shadow(asked), asked.dim() - 1
    if trace.units.any_fixed(shadow.labels()):
        return None
    if shadow.shape == tuple(tensor.shape):
        return shadow
    vector = shadow.vector(last) if shadow.varying == (last,) else 0
    return None if isinstance(vector, int) else Shadow.along(vector, tensor.dim() - 1, tuple(tensor.shape))


def _note_sliced(trace: Trace, view: Tensor, whole: Tensor, axis: int, start: int) -> None:
    """Notes what modules and their code know of the bounds of a slice."""
    canvas = trace.canvases.get(memory_key(view))
    if canvas is not None and canvas.written is None and view.shape[axis] < (length := whole.shape[axis]):
        stop = start + view.shape[axis]
        for size in (start, stop, stop - start, length - start, length - stop):
            if 0 < size < length:
                canvas.bounds.setdefault(size, []).extend(places_of_length(trace, size))


def spread(trace: Trace, target: Tensor) -> None:
    """Gives a tensor, of which a view has just got its first channels, and all its views what belongs to them."""
    shadow = trace.shadow(target)
    if shadow.is_neutral:
        return
    views = trace.views.of(target)
    found = _place_of_channels(shadow, target, views[0])
    if found is None or trace.views.keeper(target) is not None:
        trace.units.freeze(shadow.labels(), WRITTEN)
        trace.set_shadow(target, Shadow.neutral(target.shape))
        return
    axis, place, vector = found
    labels = _labels_of_whole(trace, views[0], axis, place, vector)
    for view in views:
        if trace.shadow(view).is_neutral or view is target:
            _show(trace, view, views[0], axis, labels)
    trace.pass_writers([target, *views], views)


def _place_of_channels(shadow: Shadow, target: Tensor, whole: Tensor) -> tuple[int, Place, Labels] | None:
    """Returns the axis of a tensor on which the channels of a view lie, where, and the channels there."""
    for axis in range(whole.dim()):
        place = place_in(whole, axis, target)
        if place is not None and place.axes and set(shadow.varying) <= set(place.axes) and shadow.varying:
            spanned = [size if each in place.axes else 1 for each, size in enumerate(target.shape)]
            return axis, place, shadow.core.expand(spanned).reshape(place.positions.shape).numpy()
    return None


def _labels_of_whole(trace: Trace, whole: Tensor, axis: int, place: Place, vector: Labels) -> Labels:
    """Returns the labels along an axis; what is not written yet gets new ones."""
    length = whole.shape[axis]
    labels, written = trace.units.new(length), np.zeros(length, dtype=np.bool_)
    labels[place.positions], written[place.positions] = vector, True
    canvas = trace.canvases.setdefault(memory_key(whole), Canvas({}))
    canvas.written, canvas.axis = written, axis
    canvas.borders.update(place.bounds)
    if not written.all():
        _couple_steps(trace, place, labels)
        note_bounds(trace, canvas.bounds, labels, *place.bounds)
    note_whole(trace, canvas.lengths.get(length, []), labels)
    return labels


def _couple_steps(trace: Trace, place: Place, labels: Labels) -> None:
    """Couples what lies between two channels with them, where every second place is written (`out[:, ::2]`)."""
    if place.positions.ndim == 1 and len(place.positions) > 1:
        step = int(place.positions[1] - place.positions[0])
        if len(labels) == step * len(place.positions):
            rows = labels.reshape(-1, step)
            trace.units.union(rows, rows[:, :1])


def note_written(trace: Trace, target: Tensor, sources: Sequence[Tensor]) -> None:
    """Notes which channels of a tensor have been written, and whether a layer has computed what is written."""
    canvas = trace.canvases.get(memory_key(target))
    if canvas is not None:
        canvas.is_blank = canvas.is_blank and all(is_blank(trace, source) for source in sources)
    if canvas is not None and canvas.written is not None:
        place = place_in(trace.views.of(target)[0], canvas.axis, target)
        if place is not None:
            canvas.written[place.positions] = True
            canvas.borders.update(place.bounds)


def _show(trace: Trace, view: Tensor, whole: Tensor, axis: int, labels: Labels) -> None:
    """Gives a view the labels that a tensor has along an axis."""
    place = place_in(whole, axis, view)
    if place is None:
        trace.units.freeze(labels, WRITTEN)
        return
    shape = [size if each in place.axes else 1 for each, size in enumerate(view.shape)]
    core = torch.from_numpy(np.ascontiguousarray(labels[place.positions])).reshape(shape)
    trace.set_shadow(view, Shadow(core, tuple(view.shape)).resolved(trace.units))
