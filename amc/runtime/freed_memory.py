"""Giving freed memory back to the system, where the C library keeps it."""

from __future__ import annotations

import ctypes
import sys
from functools import cache


def give_back_freed_memory() -> None:
    """Gives memory that is no longer used back to the system; does nothing where the C library is not glibc.

    glibc keeps what tensors of up to 32 MB have left between others, and its heap grows with every refit of other
    sizes: one of ResNet-20's weights leaves 750 MB behind, and a study of some thirty came to 5 GB, none of it in use.
    It takes a few milliseconds to a tenth of a second, so it is for the ends of stages and not for candidates.
    """
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> ctypes._NamedFuncPointer | None:
    """Returns the C library's function, None where it has none."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):  # such as musl's
        return None
