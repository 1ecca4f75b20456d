"""The number of threads, chosen by a measurement, and results that do not depend on it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import mean

import torch

_MEASUREMENT_S = 0.3
_RUNS = 3
_GAIN = 0.9
"""Several threads are taken where they need less than this share of the time of one."""


@contextmanager
def computing_with(threads: int | None = None) -> Iterator[None]:
    """Sets the number of CPU threads within the context (unchanged if None) and restores it afterwards."""
    before = torch.get_num_threads()
    try:
        if threads is not None:
            torch.set_num_threads(threads)
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def deterministic_algorithms(wanted: bool = True) -> Iterator[None]:
    """Computes, if asked to, in an order that is the same for any number of threads and in every run on a GPU.

    On the CPU that takes one thread (see `computing_with`), as PyTorch splits sums among threads. On CUDA, operators
    without such an algorithm warn, and their results may differ.
    """
    if not wanted:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.benchmark = benchmark


def fastest_threads(run: Callable[[], object], *, clock: Callable[[], float] = time.perf_counter) -> int:
    """Returns the number of threads with which something runs fastest: all current threads, or one.

    On a busy machine threads wait for one another, and a single one is often far faster; on small tensors it always is.

    Args:
        run: The work to time, such as a forward pass; it is run up to eight times, for about 0.3 s.
        clock: Returns seconds; for tests.
    """
    most = torch.get_num_threads()
    if most == 1:
        return 1
    start, seconds = clock(), {}
    for threads in (1, most):
        with computing_with(threads):
            run()
            seconds[threads] = _mean_seconds(run, start + _MEASUREMENT_S, clock)
    return most if seconds[most] < _GAIN * seconds[1] else 1


def _mean_seconds(run: Callable[[], object], end: float, clock: Callable[[], float]) -> float:
    """Returns how long a run takes, over three runs or as many as finish in time; at least one."""
    times: list[float] = []
    while len(times) < _RUNS and (not times or clock() < end):
        start = clock()
        run()
        times.append(clock() - start)
    return mean(times)
