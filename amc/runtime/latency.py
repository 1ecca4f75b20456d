"""Measured latency of networks, side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import torch

from amc.errors import ConfigurationError
from amc.runtime.inputs import tensors_in, with_batch
from amc.utils.progress import Progress, silent, spanning

WHY_SMALL_IS_NOT_FAST = (
    "small networks are bound by overhead, and most hardware likes widths that are multiples of 8 or 16; "
    "--budget.latency bounds the time itself"
)
"""Said where a pruned network is no faster than the dense one."""
_WARM_UPS = 3
_WARM_UP_SHARE = 0.25  # of the time that a batch size may take


@dataclass(frozen=True)
class Latency:
    """The time that one run of a network takes.

    Attributes:
        name: Which network.
        batch_size: Inputs in one run.
        median_ms: Median in milliseconds.
        p10_ms: 10th percentile in milliseconds: one run in ten is faster.
        p90_ms: 90th percentile in milliseconds: one run in ten is slower.
        times_ms: Every run that was timed, in milliseconds, by round.
    """

    name: str
    batch_size: int
    median_ms: float
    p10_ms: float
    p90_ms: float
    times_ms: tuple[float, ...]

    def speed_up_over(self, slower: Latency) -> float:
        """Returns how many times faster this network is than another one that was timed in the same rounds.

        The median over the rounds of the ratio of both times: anything that slows a whole round cancels out.
        """
        pairs = zip(slower.times_ms, self.times_ms, strict=True)
        return float(numpy.median([other / max(own, 1e-9) for other, own in pairs]))


def measure_latency(
    models: Mapping[str, Callable[[Any], Any]],
    example: Any,
    batch_sizes: Sequence[int] = (1, 32),
    repeats: int = 300,
    *,
    max_seconds: float = 20.0,
    advance: Progress = silent,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Latency]:
    """Times networks in turn, so that other load on the machine slows all of them alike.

    In every round each network runs once, in an order that is reversed from round to round. Runs before the first round
    warm up caches and memory, and are not counted.

    Args:
        models: Networks by name; each takes an input like `example`.
        example: One input, on the device that computes: a tensor, or a nested tuple or mapping. Its batch axis is
            lengthened to each batch size.
        batch_sizes: Inputs in one run.
        repeats: Rounds for every batch size, if time allows.
        max_seconds: Time for everything, split evenly between batch sizes; at least one round is always timed, even
            if a single run takes longer.
        advance: Takes the share that is done, 0 to 1, as it grows.
        clock: Returns seconds; for tests.

    Returns:
        One entry a batch size and network, in the order given.

    Raises:
        ConfigurationError: If a batch size or the number of rounds is not positive.
    """
    if repeats < 1 or not batch_sizes or min(batch_sizes) < 1:
        raise ConfigurationError(f"batch sizes and repeats must be positive, not {list(batch_sizes)} and {repeats}")
    latencies: list[Latency] = []
    for index, size in enumerate(batch_sizes):
        budget = max_seconds / len(batch_sizes)
        timer = _Timer(models, with_batch(example, size), clock)
        timer.warm_up(budget * _WARM_UP_SHARE)
        part = spanning(advance, index / len(batch_sizes), (index + 1) / len(batch_sizes))
        times = timer.rounds(repeats, budget, part)
        latencies += [_summary(name, size, seconds) for name, seconds in times.items()]
        part(1.0)
    return latencies


class _Timer:
    """Times networks on one input."""

    def __init__(self, models: Mapping[str, Callable[[Any], Any]], inputs: Any, clock: Callable[[], float]) -> None:
        self._models, self._inputs, self._clock = models, inputs, clock
        self._start = clock()
        self._on_cuda = any(tensor.is_cuda for tensor in tensors_in(inputs))

    def warm_up(self, seconds: float) -> None:
        """Runs all networks a few times; once at least."""
        for _ in range(_WARM_UPS):
            for name in self._models:
                self._time(name)
            if self._clock() - self._start > seconds:
                return

    def rounds(self, count: int, seconds: float, advance: Progress) -> dict[str, list[float]]:
        """Times rounds until there are `count`, or the time since the start is over; returns seconds by name."""
        times: dict[str, list[float]] = {name: [] for name in self._models}
        names = list(times)
        for done in range(count):
            elapsed = self._clock() - self._start
            if done and elapsed > seconds:
                break
            advance(min(max(done / count, elapsed / seconds if seconds > 0 else 1.0), 1.0))
            for name in names:
                times[name].append(self._time(name))
            names.reverse()
        return times

    def _time(self, name: str) -> float:
        with torch.inference_mode():
            self._synchronise()
            start = self._clock()
            self._models[name](self._inputs)
            self._synchronise()
            return self._clock() - start

    def _synchronise(self) -> None:
        if self._on_cuda:
            torch.cuda.synchronize()


def _summary(name: str, size: int, seconds: Sequence[float]) -> Latency:
    times = tuple(value * 1e3 for value in seconds)
    p10, median, p90 = (float(value) for value in numpy.percentile(times, [10, 50, 90]))
    return Latency(name=name, batch_size=size, median_ms=median, p10_ms=p10, p90_ms=p90, times_ms=times)
