"""One thread for all tests, the same examples of properties, no pictures, no waits for disks, little collection.

Their tensors are too small to share among cores; beside other work, threads would wait for one another for minutes.
"""

import gc
import os
import sys

import pytest
import torch
from hypothesis import HealthCheck, settings

from amc.report.figures.figure import Figure

torch.set_num_threads(1)
gc.set_threshold(100_000)  # as `amc.cli.main` does
settings.register_profile("fixed", derandomize=True, suppress_health_check=[HealthCheck.too_slow])  # on a busy machine
settings.load_profile("fixed")

_DRAWN = Figure._drawn
_PASSED_OVER = set()


@pytest.fixture(scope="session", autouse=True)
def _undrawn():
    """Leaves figures empty: most runs of the tests write a report, and drawing it would take half of their time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "_drawn", lambda self, kind, palette: b'<svg width="9pt" height="9pt"></svg>')
        yield


@pytest.fixture(scope="session", autouse=True)
def _unsynced():
    """Lets files reach the disk when the system likes: a run waits 20 to 40 times, for longer than a small one works.

    What is confirmed in which order is tested, with a stand-in for the disk, in `tests/utils/test_durable_files.py`.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: os.fstat(descriptor) and None)  # refuses what is not open, too
        yield


def pytest_runtest_call(item):
    """Lets the collector pass over what was there before the module's tests, and over what they have imported since.

    Every training and search ends with a collection, which took 0.25 s and a third of the time of the tests.
    """
    seen = (item.path, len(sys.modules) // 100)
    if seen not in _PASSED_OVER:
        _PASSED_OVER.add(seen)
        gc.collect()
        gc.freeze()


@pytest.fixture(scope="module")
def drawn():
    """Draws the figures of the module's reports."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "_drawn", _DRAWN)
        yield
