"""Freed memory is kept while it is of use, and goes back to the system after it."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import resource
import weakref
from pathlib import Path

import pytest

from amc.cli.main import load
from amc.runtime import freed_memory
from amc.runtime.freed_memory import freed_memory_kept, give_back_freed_memory

MB, SMALL = 1 << 20, 64 << 10  # blocks of 64 kB are not mapped one by one


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


ON_GLIBC = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no malloc_trim")


def page_faults(rounds):
    """Takes and frees a block of 64 MB again and again; returns how many pages the system had to supply."""
    library = ctypes.CDLL(None)
    library.malloc.restype, library.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        block = library.malloc(64 * MB)
        ctypes.memset(block, 1, 64 * MB)
        library.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@ON_GLIBC
def test_large_blocks_are_used_again_while_they_are_kept():
    outside = page_faults(4)
    with freed_memory_kept():
        page_faults(1)
        with freed_memory_kept():
            pass
        assert page_faults(4) < outside / 10  # the inner use has not ended the outer one
        kept = resident_bytes()
    assert resident_bytes() < kept - 50 * MB
    assert page_faults(4) > outside / 2


@ON_GLIBC
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
    freed_memory._function.cache_clear()
    with freed_memory_kept():
        give_back_freed_memory()
    freed_memory._function.cache_clear()


class Network:
    """Something that refers to itself, as networks with hooks of their own do."""

    def __init__(self):
        self.hook = self


def test_what_refers_to_itself_is_collected_first():
    gone = weakref.ref(Network())
    assert gone() is not None
    give_back_freed_memory()
    assert gone() is None


def test_collections_of_a_command_pass_over_what_it_has_imported():
    gc.unfreeze()
    load(["compress"])
    assert gc.get_freeze_count() > 100_000
