"""The memory that the process has needed."""

from __future__ import annotations

import sys

import torch


def peak_memory() -> int | None:
    """Returns the most main memory that the process has held so far, in bytes; None if that is not known."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def peak_device_memory(device: torch.device) -> int | None:
    """Returns the most memory that tensors have held on a GPU so far, in bytes; None on other devices."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
