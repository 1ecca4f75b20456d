"""What a network's output depends on: FLOPs of discarded results do not count, as in fvcore.

A network may run its auxiliary head in evaluation mode too, but return its result only in training mode. PyTorch's
graphs, on which fvcore counts, leave such operators out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from amc.runtime.call import tensors_in
from amc.tracing.entries import Step
from amc.tracing.record import Trace
from amc.tracing.views import memory_of


def step(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], outputs: Any, costs: range) -> Step:
    """Returns what an operator that has run reads and writes.

    Args:
        func: The operator (an `OpOverload`).
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        outputs: What it returned.
        costs: Places in `Trace.costs` of what it cost.
    """
    return Step(memory_of((args, kwargs)), memory_of((outputs, changed_by(func, args, kwargs))), costs)


def changed_by(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """Returns the tensors that an operator changes in place."""
    if not func._schema.is_mutable:
        return []
    given = {**dict(zip((each.name for each in func._schema.arguments), args, strict=False)), **kwargs}
    return tensors_in([given.get(each.name) for each in func._schema.arguments if each.is_write])


def without_dead_ends(trace: Trace, kept: Sequence[Tensor]) -> bool:
    """Removes from a trace the costs of operators that nothing depends on, and layers with no other calls.

    A tensor that no operator reads, but whose shape was asked for, counts as computed for its shape.

    Args:
        trace: A finished run; its costs keep their places.
        kept: What may be read after the run, beside parameters and buffers: its inputs and outputs.

    Returns:
        Whether layers were taken out.
    """
    read = frozenset[int]().union(*(each.reads for each in trace.steps))
    alive = {*memory_of([*kept, *trace.tensors.values()]), *(trace.measured - read)}
    dead: set[int] = set()
    for each in reversed(trace.steps):
        if each.writes.isdisjoint(alive):
            dead.update(each.costs)
        else:
            alive |= each.reads
    for place in dead:
        trace.costs[place] = (0, ())
    thrown_away = [name for name, layer in trace.layers.items() if layer.costs and dead.issuperset(layer.costs)]
    for name in thrown_away:
        del trace.layers[name]
    return bool(thrown_away)
