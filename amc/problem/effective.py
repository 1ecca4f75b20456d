"""What a network with zeros among its weights costs."""

from __future__ import annotations

from typing import Any

from torch import nn

from amc.problem.weight_problem import weight_problem
from amc.runtime.call import tensor_of
from amc.tracing.trace import trace_structure


def effective_costs(model: nn.Module, example_input: Any) -> dict[str, int]:
    """Counts what a network costs without the weights that are zero, as weight pruning counts it.

    Args:
        model: The network, in evaluation mode.
        example_input: One input of the network.

    Returns:
        Costs by metric: effective FLOPs, the parameters that are not zero (biases and normalisation in full), ...

    Raises:
        ModelError: If no layer has weights.
        StructureError: If the network does not run on the input.
    """
    problem = weight_problem(trace_structure(model, example_input, verify="nothing"), None)
    widths = [int(tensor_of(model, layer.weight).count_nonzero()) for layer in problem.layers]
    return problem.costs_of(widths)
