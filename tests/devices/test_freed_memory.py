"""Memory that is no longer used goes back to the system."""

from __future__ import annotations

import ctypes
import os
import platform
from pathlib import Path

import pytest

from amc.runtime import freed_memory
from amc.runtime.freed_memory import give_back_freed_memory

MB, SMALL = 1 << 20, 64 << 10  # blocks of 64 kB are not mapped one by one


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no malloc_trim")
def test_blocks_freed_below_one_in_use_go_back():
    library = ctypes.CDLL(None)
    library.malloc.restype, library.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    give_back_freed_memory()  # what earlier tests have left would be used first
    before = resident_bytes()
    blocks = [library.malloc(SMALL) for _ in range(3200)]
    for block in blocks:
        ctypes.memset(block, 1, SMALL)
    for block in blocks[:-1]:  # the last one keeps the heap from shrinking
        library.free(block)
    assert resident_bytes() > before + 100 * MB
    give_back_freed_memory()
    assert resident_bytes() < before + 50 * MB
    library.free(blocks[-1])


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(freed_memory.ctypes, "CDLL", lambda name: object())
    freed_memory._trim.cache_clear()
    give_back_freed_memory()
    freed_memory._trim.cache_clear()
