"""Comparing what an exported file computes with what PyTorch computes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from amc.errors import ExportError
from amc.export.formats import Runner
from amc.runtime.call import call, first_line
from amc.runtime.inputs import fresh_input, tensors_in

BATCH_SIZES = (1, 3)
"""Batch sizes at which outputs are compared: one, and one that no graph was traced with."""


def largest_difference(model: nn.Module, exported: Runner, example: Any, *, seed: int = 0) -> float:
    """Runs a network and its exported twin on fresh inputs, at two batch sizes.

    Args:
        model: The network, in evaluation mode.
        exported: Its twin.
        example: An example input.
        seed: Seed of the inputs.

    Returns:
        The largest difference of any output, as a share of the largest absolute value of that output.

    Raises:
        ExportError: If the twin does not run, or its outputs have other shapes.
    """
    generator = torch.Generator().manual_seed(seed)
    differences = []
    for size in BATCH_SIZES:
        inputs = fresh_input(example, size, generator)
        with torch.no_grad():
            expected = tensors_in(call(model, inputs))
            try:
                outputs = exported(inputs)
            except Exception as error:
                raise ExportError(
                    f"the exported network must run at batch size {size}, but fails: {first_line(error)}; "
                    "choose another --format"
                ) from error
        differences.append(relative_difference(expected, outputs))
    return max(differences)


def relative_difference(expected: Sequence[Tensor], outputs: Sequence[Tensor]) -> float:
    """Returns the largest difference of two lists of tensors, as a share of the largest expected value of a tensor.

    NaN differs infinitely from everything.

    Raises:
        ExportError: If number or shapes of the tensors differ.
    """
    shapes, found = ([tuple(tensor.shape) for tensor in tensors] for tensors in (expected, outputs))
    if shapes != found:
        raise ExportError(f"the exported network must return outputs of shapes {shapes}, not {found}")
    worst = 0.0
    for tensor, output in zip(expected, outputs, strict=True):
        if not tensor.numel():
            continue
        difference = (tensor.double() - output.double()).abs().max().item()
        scale = tensor.double().abs().max().item()
        share = difference / scale if scale > 0 else difference
        worst = max(worst, share if share == share else float("inf"))
    return worst
