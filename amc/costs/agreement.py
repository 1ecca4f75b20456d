"""Checks that the FLOPs that a structure predicts are those that fvcore counts."""

from __future__ import annotations

from typing import Any

from torch import nn

from amc.costs.counting import flops_by_operator
from amc.errors import StructureError
from amc.runtime.call import first_line
from amc.structure import ModelStructure


def check_dense_flops(model: nn.Module, structure: ModelStructure, example_input: Any) -> None:
    """Compares the FLOPs predicted for the dense network with those that fvcore counts on it, to the integer.

    Otherwise a budget could not be kept to the integer, and that would show only after the search.

    Args:
        model: The dense network.
        structure: Its structure.
        example_input: The example that it was traced with.

    Raises:
        StructureError: If they differ, naming what fvcore counts by operator, or if fvcore cannot run the network.
    """
    try:
        counted = flops_by_operator(model, example_input)
    except Exception as error:  # any error that PyTorch's tracing of the network meets
        raise StructureError(
            f"the network's FLOPs must be countable, but fvcore fails on it: {first_line(error)}; write the operator "
            "that it names in another way, or prune a part of the network without it"
        ) from error
    if sum(counted.values()) != structure.dense_flops:
        found = ", ".join(f"{name} {flops:,}" for name, flops in counted.items())
        raise StructureError(
            f"the network must cost what is predicted, {structure.dense_flops:,} FLOPs, but fvcore counts "
            f"{sum(counted.values()):,} ({found}); write the operator that differs in another way, and report the model"
        )
