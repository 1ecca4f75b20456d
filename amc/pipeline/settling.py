"""The beginning of a run: threads are chosen, and the environment is compared with that of an earlier start."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from amc.errors import RunFolderError
from amc.pipeline.environment import Environment
from amc.pipeline.recorder import Recorder
from amc.runtime import device_of, resolve_device
from amc.runtime.call import call, failure_of, inference
from amc.runtime.device import DeviceLike
from amc.runtime.threads import computing_with, deterministic_algorithms, fastest_threads
from amc.utils.random_state import kept_random_state

_BATCH_S = 0.02
"""Seconds that a measured forward pass should take; its batch is chosen so."""
_MOST_IMAGES = 64
_SMALL_IMAGE = 16
"""On images below this height or width networks are too small to split among cores: threads would only wait."""


@contextmanager
def settled(
    recorder: Recorder, model: nn.Module, example: Any, device: DeviceLike, *, deterministic: bool = False
) -> Iterator[None]:
    """Begins a run with the best number of threads; the caller's is restored afterwards.

    A resumed run keeps the number of threads it began with.

    Args:
        recorder: Reports it, and knows the environment that the run was begun in.
        model: The network of the run.
        example: One input of it.
        device: Where the run computes.
        deterministic: Whether the result must not depend on the number of threads; if so, it is one.

    Raises:
        RunFolderError: If episodes were scored in another environment, and the recorder may not mix scores.
    """
    place, known = resolve_device(device), recorder.environment()
    threads = 1 if deterministic else known.threads if known is not None else threads_for(model, example, place)
    with computing_with(threads), deterministic_algorithms(deterministic):
        here = Environment.here(place, torch.get_num_threads())
        if known is not None:
            _check(known.differences(here), recorder)
        recorder.begin()
        if known is None:
            recorder.on_environment(here)
        yield


@contextmanager
def fast_threads(model: nn.Module, example: Any, device: DeviceLike, *, deterministic: bool = False) -> Iterator[None]:
    """Computes with the best number of threads for a network, without a run; see `settled`."""
    threads = 1 if deterministic else threads_for(model, example, resolve_device(device))
    with computing_with(threads), deterministic_algorithms(deterministic):
        yield


def threads_for(model: nn.Module, example: Any, device: torch.device) -> int | None:
    """Returns the number of threads with which a network runs fastest; None where the CPU does not matter.

    One for images of less than 16 pixels; for others it is measured, in a fraction of a second.
    """
    if device.type != "cpu" or device_of(model).type != "cpu":
        return None
    if isinstance(example, Tensor) and example.dim() == 4 and min(example.shape[-2:]) < _SMALL_IMAGE:
        return 1
    with kept_random_state():
        run = _forward(model, example)
        return None if run is None else fastest_threads(run)


def _check(differing: list[str], recorder: Recorder) -> None:
    """Reports how the environment differs from that at the beginning, and stops unless scores may be mixed."""
    if not differing:
        return
    words = f"the run was begun with {'; '.join(differing)}: scores and weights may differ in their last digits"
    if recorder.recorded_episodes() and not recorder.may_mix_scores:
        remedy = "resume it as it was begun, with --mix_scores, or without environment.json in its folder"
        raise RunFolderError(f"{words}; {remedy}")
    recorder.say(words)


def _forward(model: nn.Module, example: Any) -> Callable[[], object] | None:
    """Returns a forward pass, of several images where one takes too little time; None where the network fails."""

    def run(batch: Any) -> object:
        with inference(model):
            return call(model, batch)

    if failure_of(model, example) is not None:
        return None
    start = time.perf_counter()
    run(example)
    count = int(min(_MOST_IMAGES, _BATCH_S / max(1e-9, time.perf_counter() - start)))
    if isinstance(example, Tensor) and example.dim() and count > 1:
        several = example.repeat(count, *[1] * (example.dim() - 1))
        if failure_of(model, several) is None:
            return partial(run, several)
    return partial(run, example)
