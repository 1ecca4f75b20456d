"""Splits and slices of channels: which pieces go together, and where modules or their code say how long they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import gcd

from amc.tracing.code_lengths import note_code_length, numbers_of_length
from amc.tracing.record import Trace
from amc.tracing.remembered_shapes import LAYER_SIZES, NO_HEADS
from amc.tracing.shadow import Shadow
from amc.tracing.units import Labels


def couple_pieces(trace: Trace, shadow: Shadow, axis: int, count: int) -> None:
    """Couples equal pieces of the channels, so that each loses the same places."""
    vector = shadow.vector(axis)
    if not isinstance(vector, int):
        pieces = vector.reshape(count, -1)
        trace.units.union(pieces, pieces[:1])


def remember_pieces(trace: Trace, vector: Labels, sizes: Sequence[int]) -> bool:
    """Notes where modules remember the lengths of unequal pieces, or their code has them; equal ones are coupled.

    Args:
        trace: What is known so far.
        vector: The labels that are split.
        sizes: Lengths of the pieces.

    Returns:
        Whether they are known, all but one at least: the last may be what is left.
    """
    starts = [sum(sizes[:place]) for place in range(len(sizes))]
    pieces = [vector[start : start + size] for start, size in zip(starts, sizes, strict=True)]
    for path, name, held in _around(trace):
        if isinstance(held, (tuple, list)) and list(held) == list(sizes) and all(type(size) is int for size in held):
            for place, piece in enumerate(pieces):
                _note(trace, path, f"{name}[{place}]", piece)
            return True
    found = 0
    for size in dict.fromkeys(sizes):
        alike = [piece for piece in pieces if len(piece) == size]
        for piece in alike[1:]:
            trace.units.union(alike[0], piece)
        known = _remember(trace, size, alike[0]) or note_code_length(trace, size, alike[0], couple=True)
        found += len(alike) * known
    return found >= len(sizes) - 1


def is_periodic(trace: Trace, vector: Labels, start: int, stop: int) -> bool:
    """Returns whether channels have been coupled piece by piece before, and a part of them consists of such pieces."""
    period = gcd(start, stop, len(vector))
    pieces = trace.units.find(vector).reshape(-1, period)
    return bool((pieces == pieces[:1]).all())


def remember_bound(trace: Trace, vector: Labels, position: int) -> bool:
    """Notes where modules remember a place in the channels, or their code has it: counted from the start or the end.

    Returns:
        Whether they do, or it is the start or the end itself.
    """
    if position in (0, len(vector)):
        return True
    parts = [(position, vector[:position]), (len(vector) - position, vector[position:])]
    if any(_remember(trace, size, part) for size, part in parts):
        return True
    noted = [note_code_length(trace, size, part, couple=True) for size, part in parts]  # the trial chooses
    return any(noted)


Places = Sequence[tuple[str, str]]
"""Where numbers stand: module and name."""


def places_of_length(trace: Trace, size: int) -> list[tuple[str, str]]:
    """Returns where the running module, or the one around it, remembers a length, or its statement has it."""
    held = [(path, name) for path, name, value in _around(trace) if type(value) is int and value == size]
    return held + numbers_of_length(trace, size)


def note_lengths(trace: Trace, places: Places, labels: Labels) -> None:
    """Notes numbers that may be how many channels there are, of which the trial keeps what it can prove.

    A number that is that of several layers' channels makes all lose the same places.
    """
    if trace.in_code is None:
        return
    for path, name in places:
        alike = [held for *place, held in trace.in_code if place == [path, name] and len(held) == len(labels)]
        if alike:
            trace.units.union(alike[0], labels)
        trace.in_code.append((path, name, labels))


def note_whole(trace: Trace, places: Places, labels: Labels) -> None:
    """Notes numbers that a tensor was made with, along its channels: they are no bounds of parts of another."""
    if trace.in_code is not None:
        wrong = set(places) - trace.lengths
        trace.in_code[:] = [entry for entry in trace.in_code if entry[:2] not in wrong]
    trace.lengths.update(places)
    note_lengths(trace, places, labels)


def note_bounds(trace: Trace, places: Mapping[int, Places] | None, vector: Labels, start: int, stop: int) -> None:
    """Notes numbers that may be the bounds of a part of the channels; see `note_lengths`.

    Args:
        trace: What is known so far.
        places: Where numbers stand, by their value; None for those of the running module and statement.
        vector: The labels.
        start: Where the part starts.
        stop: Where it ends.
    """
    known = set(trace.lengths)
    for part in (vector[:start], vector[:stop], vector[start:stop], vector[start:], vector[stop:]):
        if 0 < len(part) < len(vector):
            found = places_of_length(trace, len(part)) if places is None else places.get(len(part), [])
            is_half = 2 * len(part) == len(vector)  # which of the two is meant cannot be told
            note_lengths(
                trace,
                [place for place in found if place not in known or (is_half and place not in trace.lengths)],
                part,
            )
            known.update(found)


def _remember(trace: Trace, size: int, labels: Labels) -> bool:
    found = [(path, name) for path, name, held in _around(trace) if type(held) is int and held == size]
    for path, name in found:
        _note(trace, path, name, labels)
    return bool(found)


def _note(trace: Trace, path: str, name: str, labels: Labels) -> None:
    """Notes a length that a module remembers; where it is that of several layers, all lose the same places."""
    for module, attribute, others in trace.attributes:
        if (module, attribute) == (path, name) and len(others) == len(labels):
            trace.units.union(others, labels)
    trace.remember(path, name, labels)


def _around(trace: Trace) -> list[tuple[str, str, object]]:
    """Returns what the running module holds under names of its own, and the one that it is a part of."""
    running = trace.modules[-1]
    paths = [running] if not running else [running, running.rpartition(".")[0]]
    without = {*LAYER_SIZES, *NO_HEADS}
    held = [(path, vars(trace.model.get_submodule(path)).items()) for path in paths]
    return [(path, name, value) for path, items in held for name, value in items if name not in without]
