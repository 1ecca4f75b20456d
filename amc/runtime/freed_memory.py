"""Memory that tensors have left: kept for the next ones while work goes on, given back to the system at its end."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Numbers of the options in glibc's `malloc.h`."""
_ALL = 2**31 - 1
_BLOCKS, _TOP = 2**25, 2**26
"""What glibc's own thresholds rise to by themselves in a process that uses large blocks."""
_lock, _users = threading.Lock(), 0


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keeps freed memory in the process for as long as something runs that takes the same blocks again and again.

    glibc takes blocks of more than 32 MB from the system each time, which fills them with zeros page by page: a pass of
    MobileNet V1 over 100 images of 224 pixels spends 0.7 of its 1.7 s on that. At the end the memory is given back.
    Processes on another C library, and tensors on a GPU, are not affected. Uses may be nested, and in several threads.
    """
    global _users
    with _lock:
        _users += 1
        if _users == 1:
            _set_thresholds(_ALL, _ALL)
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users:
                _set_thresholds(_BLOCKS, _TOP)
                give_back_freed_memory()


def give_back_freed_memory() -> None:
    """Gives memory that is no longer used back to the system; without glibc only what Python has not collected yet.

    Networks and agents that are done hold each other in circles, which Python looks for rarely: see `amc.cli.main`. A
    search of ResNet-20 leaves 100 MB in them, and a study of forty cells came to 7 GB.

    glibc keeps what tensors of up to 32 MB have left between others, and its heap grows with every refit of other
    sizes: one of ResNet-20's weights leaves 750 MB behind, and a study of some thirty came to 5 GB, none of it in use.
    It takes a few milliseconds to a tenth of a second, so it is for the ends of stages and not for candidates.
    """
    gc.collect()
    trim = _function("malloc_trim")
    if trim is not None:
        trim(0)


def _set_thresholds(blocks: int, top: int) -> None:
    """Sets from how many bytes on a block comes from the system, and how many the heap's end may keep."""
    set_option = _function("mallopt")
    if set_option is not None:
        set_option(_MMAP_THRESHOLD, blocks)
        set_option(_TRIM_THRESHOLD, top)


@cache
def _function(name: str) -> Callable[..., int] | None:
    """Returns a function of the C library, None where it has none of this name."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        found: Callable[..., int] = getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError):  # such as musl's
        return None
    return found
