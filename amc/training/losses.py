"""Separates the outputs that networks return in training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from amc.runtime.outputs import main_output


def split_output(output: Any) -> tuple[Tensor, list[Tensor]]:
    """Separates the main output from those of auxiliary heads, which some networks return in training.

    They are what follows the main output in a sequence in the same shape (GoogLeNet, Inception), or `aux` in a mapping
    (torchvision's segmentation networks).

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
