"""What identifies the memory of a tensor, which its views share."""

from __future__ import annotations

from torch import Tensor


def memory_key(tensor: Tensor) -> int:
    """Returns what identifies the memory of a tensor while it lives."""
    try:
        return int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):  # sparse tensors have no storage
        return id(tensor)
