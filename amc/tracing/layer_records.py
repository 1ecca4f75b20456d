"""How the rules of operators note that a layer has run."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from amc.tracing.entries import LayerRecord, Producer
from amc.tracing.record import Trace


def record_layer(trace: Trace, record: LayerRecord, output: Tensor) -> None:
    """Records a layer, or another call of it. The products of a recurrent module are one layer's."""
    owner, _, _ = record.weight.rpartition(".")
    is_recurrent = isinstance(trace.model.get_submodule(owner), (nn.RNNBase, nn.RNNCellBase))
    trace.layer_run = owner if is_recurrent else record.weight
    if not trace.counting:
        return
    seen = trace.layers.setdefault(record.weight, record)
    if seen is not record:
        seen.calls += 1
        seen.costs += record.costs
        seen.keeps_zeros &= record.keeps_zeros
        if seen.axes != record.axes:
            seen.axes = seen.axes.in_two_ways
    else:
        trace.produced(output, Producer(record))


def pair_of(sizes: Any) -> tuple[int, int]:
    """Returns height and width; sequences are (length, 1)."""
    numbers = [int(size) for size in sizes]
    return (numbers[-2], numbers[-1]) if len(numbers) > 1 else (numbers[0] if numbers else 1, 1)
