"""Numbers in the code that may be the length of an axis: candidates, of which the trial keeps what it can prove."""

from __future__ import annotations

from itertools import islice

from amc.structure.numbers_in_code import running_numbers
from amc.tracing.record import Trace
from amc.tracing.shadow import Shadow
from amc.tracing.units import Labels


def note_code_length(trace: Trace, size: int, labels: Labels, *, couple: bool = False) -> bool:
    """Notes the numbers in the running code that equal a length; of the statement that runs, if it has some.

    Args:
        trace: What is known so far.
        size: The length.
        labels: Labels along the axis.
        couple: Whether a number that is the length of several layers' channels makes all lose the same places.

    Returns:
        Whether there are any.
    """
    if trace.in_code is None:
        return False
    running = trace.modules[-1]
    for path in dict.fromkeys([running, running.rpartition(".")[0]]):
        for numbers in running_numbers(trace.model.get_submodule(path)):
            names = [name for name, value in numbers.items() if value == size]
            for name in names:
                alike = [held for *place, held in trace.in_code if place == [path, name] and len(held) == len(labels)]
                if couple and alike:
                    trace.units.union(alike[0], labels)
                trace.in_code.append((path, name, labels))
            if names:
                return True
    return False


def numbers_of_length(trace: Trace, size: int) -> list[tuple[str, str]]:
    """Returns the numbers that equal a length in the statement that a module is running, as module and name."""
    if trace.in_code is None:
        return []
    running, found = trace.modules[-1], []
    for path in dict.fromkeys([running, running.rpartition(".")[0]]):
        for numbers in islice(running_numbers(trace.model.get_submodule(path)), 0, None, 2):
            found += [(path, name) for name, value in numbers.items() if value == size]
    return found


def note_code_shape(trace: Trace, shadow: Shadow) -> None:
    """Notes the numbers in the running code that equal the lengths of a tensor that has just got its shape."""
    for axis in shadow.varying:
        vector = shadow.vector(axis)
        if not isinstance(vector, int):
            note_code_length(trace, shadow.shape[axis], vector)
