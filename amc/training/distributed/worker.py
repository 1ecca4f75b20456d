"""The processes beside the first one: they do the trainings that it asks for."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from amc.data.image_set import BatchSource
from amc.errors import ProcessLostError
from amc.runtime.call import first_line
from amc.runtime.threads import computing_with, deterministic_algorithms
from amc.training.distributed.checks import kind_of_device
from amc.training.distributed.group import JoinedCollectives, Place
from amc.training.divergence import DivergedError
from amc.training.trainer import carry_out
from amc.training.work import Work

_LOOK_S = 2.0
"""Seconds between two looks whether the first process is still there."""


@dataclass(frozen=True)
class Message:
    """A training that the first process asks for.

    Attributes:
        work: The training, of whose data only a few images are there.
        train: The training images; None if they are those of the training before.
        threads: CPU threads that a process computes with.
        deterministic: Whether to compute in an order that is the same in every run.
    """

    work: Work
    train: BatchSource | None
    threads: int
    deterministic: bool


def serve(collectives: JoinedCollectives) -> None:
    """Does the trainings that the first process asks for, until it asks for no more.

    Raises:
        ProcessLostError: If another process is gone.
    """
    train: BatchSource | None = None
    while (content := collectives.value_of_first(None)) is not None:
        message: Message = pickle.loads(content)
        train = train if message.train is None else message.train
        assert train is not None
        work = message.work
        work = replace(work, data=replace(work.data, train=train), device=collectives.device)
        with computing_with(message.threads), deterministic_algorithms(message.deterministic):
            try:
                carry_out(work, collectives)
            except DivergedError:  # of which the first process knows too: it decides
                continue


def serve_torchrun(device: str) -> int:
    """Serves as one of the processes that `torchrun` has started; returns the exit status.

    Args:
        device: `"auto"`, `"cpu"` or `"cuda"`.
    """
    for number in (signal.SIGINT, signal.SIGTERM):  # until the group stands, a signal ends the process
        signal.signal(number, signal.SIG_DFL)
    place = Place.of_torchrun(kind_of_device(device))

    def say(line: str) -> None:
        print(f"amc: error: process {place.rank} of {place.size}: {line}", file=sys.stderr)

    return _served(place, say)


def serve_local(place: Place, ready: Connection, log: Path) -> None:
    """Serves as a process that the first one has started.

    Args:
        place: Where this process stands.
        ready: Where it says that it is there.
        log: The file that takes all output; after a failure its last line says why.
    """
    with log.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    threading.Thread(target=_leave_with, args=(os.getppid(),), daemon=True).start()
    _ignore_signals()
    ready.send_bytes(b"ready")
    ready.close()

    def say(line: str) -> None:
        with log.open("a", encoding="utf-8") as file:
            file.write(f"\n{line}\n")

    os._exit(_served(place, say))


def _served(place: Place, say: Callable[[str], None]) -> int:
    """Joins and serves; returns the exit status."""
    try:
        collectives = JoinedCollectives(place)
        _ignore_signals()
        serve(collectives)
        collectives.leave()
    except ProcessLostError:  # the first one has ended, and says why
        return 1
    except BaseException as error:
        say(f"{type(error).__name__}: {first_line(error)}")
        return 1
    return 0


def _ignore_signals() -> None:
    """Leaves it to the first process to stop at a safe point; this one ends with it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _leave_with(parent: int) -> None:
    """Ends this process when the one that has started it is gone."""
    while os.getppid() == parent:
        time.sleep(_LOOK_S)
    os._exit(1)


def threads_of_each(processes: int) -> int:
    """Returns how many CPU threads each of some processes on this machine has to itself."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(torch.get_num_threads(), cores // processes))
