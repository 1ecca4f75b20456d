"""How many inputs to run at once."""

from __future__ import annotations

from typing import Any

from torch import Tensor

MOST = 250
_LEAST = 8
_VALUES = 2**20
"""Values of all inputs together: activations of large images would take gigabytes."""


def inputs_at_once(values: int) -> int:
    """Returns how many inputs to run at once: 250, and fewer of more than 4,194 values; of 3x224x224 8.

    Args:
        values: Values of one input, such as C * H * W.
    """
    return min(MOST, max(_LEAST, _VALUES // max(1, values)))


def batch_size_for(inputs: Any) -> int:
    """Returns how many of some inputs to run at once.

    Args:
        inputs: A tensor `(N, ...)`; of inputs of any other form as many as there may be.
    """
    return inputs_at_once(inputs[0].numel()) if isinstance(inputs, Tensor) and len(inputs) else MOST
