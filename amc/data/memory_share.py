"""How much of the machine's memory decoded images take."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

MOST = 0.5
"""The largest share of the memory that decoded images may take."""
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def total_memory() -> float:
    """Returns the memory of the machine, or of the container where that has less, in bytes; infinite if unknown.

    It is all of the memory, not what is free at the moment: a run that is resumed must come to the same decision.
    """
    found = [float("inf")]
    if hasattr(os, "sysconf"):
        with suppress(OSError, ValueError):
            found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for file in _LIMITS:
        with suppress(OSError, ValueError):  # "max" is no number
            found.append(int(Path(file).read_text(encoding="ascii")))
    return min(found)


def exceeds(share: float, needed: int) -> bool:
    """Returns whether a number of bytes is more than a share of the memory."""
    if share == 0:
        return True
    return needed > share * total_memory()
