"""Recurrent layers of PyTorch, which run as one operator: how they are traced, and how their parts are coupled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from amc.tracing.record import Trace


@contextmanager
def gate_by_gate(model: nn.Module) -> Iterator[None]:
    """Makes LSTMs run as their products and gates; oneDNN runs them as one operator.

    Only networks with an LSTM run this way: convolutions are slow without oneDNN.
    """
    if not any(isinstance(module, nn.LSTM) for module in model.modules()):
        yield
        return
    # Not `flags`, which also sets other things and warns about them.
    before = torch.backends.mkldnn.set_flags(False)[0]  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        torch.backends.mkldnn.set_flags(before)  # type: ignore[no-untyped-call]


def couple_states(trace: Trace) -> None:
    """Couples the hidden states of all layers and directions of a recurrent module, which remembers one width for all.

    Args:
        trace: A finished run.
    """
    for path, module in trace.model.named_modules():
        if not isinstance(module, nn.RNNBase) or module.proj_size:
            continue
        keys = [(f"{path}.{name}" if path else name, 1) for name, _ in module.named_parameters() if "weight_hh" in name]
        states = [trace.axis_labels[key] for key in keys if key in trace.axis_labels]
        for state in states[1:]:
            trace.units.union(states[0], state)
        read = trace.axis_labels.get((f"{path}.weight_ih_l0" if path else "weight_ih_l0", 1))
        if read is not None:  # of packed sequences an LSTM does not check it
            trace.attribute(path, "input_size", read)
