"""Signals that ask a process to stop: it stops where nothing is lost, or at once when asked a second time."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequested(KeyboardInterrupt):
    """The process was asked to end, by Ctrl-C or by SIGTERM."""


class _Stops:
    """The signal that this process has received, and whether it waits for a safe point."""

    def __init__(self) -> None:
        self.process = 0
        self.deferring = 0
        self.received: int | None = None


_STOPS = _Stops()


@contextmanager
def stopping_safely() -> Iterator[None]:
    """Handles SIGINT and SIGTERM within the context: they end the work by a `StopRequested`.

    Outside of `deferring_stops` it is raised at once. The previous handlers are restored afterwards. Only the main
    thread can handle signals; in others the context does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _STOPS.process, _STOPS.received = os.getpid(), None
    before = {number: signal.signal(number, _on_signal) for number in _SIGNALS}
    try:
        yield
    finally:
        _STOPS.process = 0
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def deferring_stops() -> Iterator[None]:
    """Lets a signal wait for the next `stop_here`, or for the end of the context."""
    _STOPS.deferring += 1
    try:
        yield
    finally:
        _STOPS.deferring -= 1
    stop_here()


def stop_requested() -> bool:
    """Returns whether a signal waits for a safe point."""
    return _STOPS.received is not None and _STOPS.process == os.getpid()


def stop_here() -> None:
    """Marks a safe point: everything done is kept.

    Raises:
        StopRequested: If a signal has waited for it.
    """
    if stop_requested():
        raise StopRequested


def exit_status() -> int:
    """Returns the status of a process that a signal has ended: 130 after Ctrl-C, 143 after SIGTERM."""
    return 128 + (_STOPS.received or signal.SIGINT)


def _on_signal(number: int, frame: FrameType | None) -> None:
    waits = _STOPS.deferring > 0
    if os.getpid() != _STOPS.process:  # a worker that loads data: its parent decides
        if waits:
            return
        raise StopRequested
    is_first, _STOPS.received = _STOPS.received is None, number
    if not (waits and is_first):
        raise StopRequested
    # Printing is not safe here: the signal may have come in the middle of another line.
    os.write(2, b"amc: stopping at the next safe point; once more stops at once\n")
