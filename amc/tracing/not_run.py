"""Which layers an example leaves out: of them a trace can say nothing."""

from __future__ import annotations

from torch import nn

from amc.tracing.record import Trace

LAYERS = (
    nn.modules.conv._ConvNd,
    nn.Linear,
    nn.Bilinear,
    nn.Embedding,
    nn.EmbeddingBag,
    nn.RNNBase,
    nn.RNNCellBase,
    nn.MultiheadAttention,
)
"""Modules that are a layer, or hold the weights of one."""


def layers_not_run(trace: Trace) -> tuple[str, ...]:
    """Returns the names of the layers none of whose parameters an operator has read, in the order of the network.

    A layer that shares a parameter with one that has run counts as run. What belongs to a layer that is listed, such as
    the output projection of an attention, is not listed itself.

    Args:
        trace: A finished trace: the run in evaluation mode, and the one in training mode if there was one.
    """
    used = {id(trace.tensors[name]) for name in trace.users if name in trace.tensors}
    found: list[str] = []
    for name, module in trace.model.named_modules():
        parameters = {id(parameter) for parameter in module.parameters()}
        within = any(name.startswith(f"{other}.") for other in found if other)
        if isinstance(module, LAYERS) and parameters and used.isdisjoint(parameters) and not within:
            found.append(name)
    return tuple(found)
