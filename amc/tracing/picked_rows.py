"""Rows that a network picks by what it has computed, as a gate routes them to experts.

How many they are decides what the layers behind cost. A cut ahead of the gate would change what it tells, and the
network would cost something else than was predicted. So what it depends on stays whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from amc.runtime.call import tensors_in
from amc.runtime.memory_key import memory_key
from amc.tracing.record import Trace
from amc.tracing.rules_writing import RULES
from amc.tracing.views import memory_of
from amc.tracing.writings import is_mask

TELLS_ROWS = "its values tell how many rows other layers compute; picking a fixed number (topk) would let it be cut"
"""Why channels stay whole that a mask of rows depends on."""


def note_rows(trace: Trace, func: Any, args: tuple[Any, ...], inputs: Sequence[Tensor], outputs: Any) -> bool:
    """Follows how many rows were picked by values that layers have computed, from operator to operator.

    Args:
        trace: What is known so far.
        func: The operator that has just run.
        args: Its positional arguments.
        inputs: The tensors that it has read.
        outputs: What it has returned.

    Returns:
        Whether it reads such rows.
    """
    found: dict[int, frozenset[int]] = {}
    for tensor in inputs:
        for count, memory in trace.rows.get(id(tensor), {}).items():
            found[count] = found.get(count, frozenset()) | memory
    reads = bool(found)
    for mask in _masks(func, args, inputs):
        if trace.writers(mask):
            count = int(mask.count_nonzero())
            found[count] = found.get(count, frozenset()) | memory_of(mask)
    if func.overloadpacket.__name__.removesuffix("_") in RULES:  # what is written into keeps its shape
        found = dict(trace.rows.get(id(args[0]), {}))
    for tensor in tensors_in(outputs) if found else ():
        held = {count: memory for count, memory in found.items() if count in tensor.shape}
        if held:
            trace.rows[id(tensor)] = held
    return reads


def _masks(func: Any, args: tuple[Any, ...], inputs: Sequence[Tensor]) -> list[Tensor]:
    """Returns the tensors whose values decide on the shape of an operator's output."""
    if torch.Tag.dynamic_output_shape not in func.tags:
        return []
    if func.overloadpacket.__name__ == "index":
        return [tensor for tensor in tensors_in(args[1]) if is_mask(tensor)]
    return [tensor for tensor in inputs if is_mask(tensor)] or list(inputs[:1])


def note_cost_of_rows(trace: Trace, inputs: Sequence[Tensor]) -> None:
    """Notes that an operator which reads picked rows costs something."""
    memory = frozenset[int]().union(*(held for each in inputs for held in trace.rows.get(id(each), {}).values()))
    trace.telling.append((len(trace.steps), memory))


def freeze_what_tells_rows(trace: Trace) -> None:
    """Freezes the channels that the number of picked rows depends on, where it decides what the network costs.

    Args:
        trace: A finished run.
    """
    told, memory = dict(trace.telling), set[int]()
    for number in reversed(range(len(trace.steps) + 1)):
        step = trace.steps[number] if number < len(trace.steps) else None
        if step is not None and not step.writes.isdisjoint(memory):
            memory |= step.reads
        memory |= told.get(number, frozenset())
    for name, tensor in trace.tensors.items() if memory else ():
        if memory_key(tensor) in memory:
            for axis in range(tensor.dim()):
                trace.units.freeze(trace.axis_labels.get((name, axis), []), TELLS_ROWS)
            trace.units.freeze(trace.element_labels.get(name, []), TELLS_ROWS)
