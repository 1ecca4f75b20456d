"""Separates the outputs that networks return in training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from amc.runtime.outputs import main_output


def split_output(output: Any) -> tuple[Tensor, list[Tensor]]:
    """Separates the main output from those of auxiliary heads, which some networks return in training mode.

    Auxiliary outputs are those of the same shape that follow the main one in a sequence (GoogLeNet, Inception), or
    `aux` in a mapping (torchvision's segmentation networks).

    Raises:
        ModelError: If there is no main output; see `main_output`.
    """
    main = main_output(output)
    others: Sequence[Any] = ()
    if isinstance(output, Mapping):
        others = (output.get("aux"),)
    elif isinstance(output, Sequence):
        others = output[1:]
    return main, [extra for extra in others if isinstance(extra, Tensor) and extra.shape == main.shape]
