"""Whether weights are numbers."""

from __future__ import annotations

import torch
from torch import Tensor


def all_finite(tensor: Tensor) -> bool:
    """Returns whether no element is NaN or infinite.

    A finite sum proves it, and costs far less than checking every element; finite elements may still have an infinite
    sum.
    """
    values = tensor.detach()
    if values.element_size() == 1:  # PyTorch sums no floats of eight bits
        return bool(torch.isfinite(values).all())
    return bool(torch.isfinite(values.sum())) or bool(torch.isfinite(values).all())
