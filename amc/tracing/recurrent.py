"""Recurrent layers of PyTorch, which run as one operator: how they are traced, and how their parts are coupled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from amc.tracing.entries import ParameterView
from amc.tracing.record import Trace

AS_WIDE = "PyTorch leaves the projection of an LSTM out, without a word, where its cells are as wide"
"""Why the cells of an LSTM with a projection stay whole: they must never become as wide as what they project to."""


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
        if not isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
            continue
        prefix = f"{path}." if path else ""
        names = [prefix + name for name, _ in module.named_parameters() if name.startswith("weight_hh")]
        for name in names:
            _couple_with_next_step(trace, name)
            cells = trace.axis_labels.get((name.replace("weight_hh", "weight_hr"), 1))
            if cells is not None:
                trace.units.freeze(cells, AS_WIDE)
        if isinstance(module, nn.RNNCellBase) or module.proj_size:
            continue
        states = [trace.axis_labels[name, 1] for name in names if (name, 1) in trace.axis_labels]
        for state in states[1:]:
            trace.units.union(states[0], state)
        read = trace.axis_labels.get((f"{prefix}weight_ih_l0", 1))
        if read is not None:  # of packed sequences an LSTM does not check it
            trace.attribute(path, "input_size", read)


def _couple_with_next_step(trace: Trace, name: str) -> None:
    """Couples the state that a step writes with what the next one reads: an example of one step runs no next one.

    Args:
        trace: A finished run.
        name: The weight that reads the state.
    """
    written = trace.axis_labels.get((name.replace("weight_hh", "weight_hr"), 0), trace.axis_labels.get((name, 0)))
    width = trace.tensors[name].shape[1] if name in trace.tensors else 0
    if written is not None and width > 1:  # the norms of weight normalisation are one column
        trace.tie(ParameterView(name, (0, 1), (0, 0)), 1, written[:width], "read")
