"""Signals that ask a process to stop: it stops where nothing is lost, or at once when asked a second time.

An exception in the middle of an import may pass through the native code of the library that is loaded, and abort the
process. So a first signal that comes there waits for the import's end.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_PATIENCE_S = 10.0  # how long an import may take to end: a module of the user's may never do so
_SILENCE_S = 1.0
_LOOK_AGAIN_S = 0.02


class StopRequested(KeyboardInterrupt):
    """The process was asked to end, by Ctrl-C or by SIGTERM."""


class _Stops:
    """The signal that this process has received, and what it waits for."""

    def __init__(self) -> None:
        self.process = 0
        self.deferring = 0
        self.received: int | None = None
        self.importing: object | None = None  # what the thread that waits for the end of an import was started with
        self.ending = False
        self.passed = False


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
    _STOPS.process, _STOPS.received, _STOPS.ending, _STOPS.passed = os.getpid(), None, False, False
    before = {number: signal.signal(number, _on_signal) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _STOPS.process, _STOPS.importing, _STOPS.ending = 0, None, False


@contextmanager
def deferring_stops() -> Iterator[None]:
    """Lets a signal wait for the next `stop_here`, or for the end of the context."""
    _STOPS.deferring += 1
    try:
        yield
    finally:
        _STOPS.deferring -= 1
    stop_here()


def stop_no_more() -> None:
    """Says that the process is about to end by itself, as it prints why: a first signal changes nothing from here on.

    A second one ends it at once, as the reader of what it prints may have stopped.
    """
    _STOPS.ending = True


def stop_requested() -> bool:
    """Returns whether a signal waits for a safe point."""
    return _STOPS.received is not None and _STOPS.process == os.getpid()


def stop_here() -> None:
    """Marks a safe point: everything done is kept.

    Raises:
        StopRequested: If a signal has waited for it.
    """
    if stop_requested():
        _STOPS.importing = None
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
    if _STOPS.ending:
        _leave_at_the_second(number)
        return
    is_first, _STOPS.received = _STOPS.received is None, number
    if is_first and waits:
        # Printing is not safe here: the signal may have come in the middle of another line.
        os.write(2, b"amc: stopping at the next safe point; once more stops at once\n")
        return
    if is_first and _imports(frame):
        _STOPS.importing = wait = object()
        # Not a Thread: the main thread may hold the lock that starting one takes.
        _thread.start_new_thread(_send_after_import, (number, threading.get_ident(), wait))
        return
    _STOPS.importing = None
    raise StopRequested


def _leave_at_the_second(number: int) -> None:
    """Lets the first signal pass while the process ends, and leaves at once at the next one."""
    if _STOPS.passed:
        os._exit(128 + number)
    _STOPS.passed = True


def _send_after_import(number: int, thread: int, wait: object) -> None:
    """Sends the main thread a signal once more, as soon as it is not within an import, unless the wait is over."""
    start_s, told = time.monotonic(), False
    while _STOPS.importing is wait and _imports(sys._current_frames().get(thread)):
        waited_s = time.monotonic() - start_s
        if waited_s > _SILENCE_S and not told:
            os.write(2, b"amc: stopping when a library is loaded; once more stops at once\n")
            told = True
        if waited_s > _PATIENCE_S:  # only now: a busy machine may pass both bounds in one sleep
            break
        time.sleep(_LOOK_AGAIN_S)
    if _STOPS.importing is wait:
        signal.pthread_kill(thread, number)


def _imports(frame: FrameType | None) -> bool:
    """Returns whether a module is being imported somewhere up the stack."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
