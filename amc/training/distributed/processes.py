"""The first of several processes that share trainings: it starts the others, and tells them what to do."""

from __future__ import annotations

import multiprocessing
import multiprocessing.process
import os
import pickle
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from pathlib import Path

import torch

from amc.data.image_set import BatchSource
from amc.errors import ConfigurationError, ProcessLostError
from amc.runtime.collectives import Collectives
from amc.runtime.device import resolve_device
from amc.runtime.threads import computing_with
from amc.training.distributed.checks import check_devices, check_not_torchrun, check_work, kind_of_device
from amc.training.distributed.group import JoinedCollectives, Place, under_torchrun
from amc.training.distributed.worker import Message, serve_local, threads_of_each
from amc.training.number_format import training_dtype
from amc.training.work import ONE, Processes, Work

_START_S, _NOTICE_S, _GRACE_S = 600.0, 5.0, 60.0
"""Seconds in which a process must start; in which the system must know that a process is dead whose connection is
closed; and which an accelerator has to notice that another process is."""


class SharedProcesses(Processes):
    """Processes that have joined, or will when the first training begins."""

    def __init__(self, size: int, local_size: int) -> None:
        """Takes how many there are, and how many of them are on this machine."""
        self.size, self._local_size = size, local_size
        self._sent: BatchSource | None = None

    def check(self, work: Work) -> None:
        """Refuses what cannot be shared; see `checks.check_work`."""
        check_work(work, self.size)

    @contextmanager
    def sharing(self, work: Work) -> Iterator[Collectives]:
        """Has the other processes do the same work; see `Processes`.

        Raises:
            ProcessLostError: If one of them dies.
        """
        with computing_with(threads_of_each(self._local_size)):
            try:
                collectives = self._joined()
                collectives.value_of_first(pickle.dumps(self._message(work), protocol=pickle.HIGHEST_PROTOCOL))
                self._sent = work.data.train
                yield collectives
            except ProcessLostError as error:
                raise ProcessLostError(self._why(error)) from error
            except BaseException:
                self.abandon()  # they wait for this process in the middle of a step
                raise

    def _message(self, work: Work) -> Message:
        """Returns a training without the images that only this process needs, or that were sent before."""
        dtype = str(training_dtype(work.model, work.data, work.config, resolve_device(work.device)))
        few = work.data.search.take(range(min(4, len(work.data.search))))
        rest = replace(work.data, train=few, calibration=few, search=few, test=few)
        config = replace(work.config, dtype=dtype.removeprefix("torch."))
        train = None if work.data.train is self._sent else work.data.train
        fixed = torch.are_deterministic_algorithms_enabled()
        return Message(replace(work, data=rest, config=config, device="cpu"), train, torch.get_num_threads(), fixed)

    def _joined(self) -> JoinedCollectives:
        """Returns the group of all processes."""
        raise NotImplementedError

    def _why(self, error: ProcessLostError) -> str:
        """Returns why a process is gone."""
        return str(error)

    def abandon(self) -> None:
        """Ends the other processes at once."""

    def close(self) -> None:
        """Lets the other processes end."""


class TorchrunProcesses(SharedProcesses):
    """Processes that `torchrun` has started; it ends the others if one fails."""

    def __init__(self, device: str) -> None:
        """Joins the others, which wait in `worker.serve_torchrun`."""
        place = Place.of_torchrun(device)
        super().__init__(place.size, place.local_size)
        self._collectives = JoinedCollectives(place)

    def _joined(self) -> JoinedCollectives:
        return self._collectives

    def abandon(self) -> None:
        """Leaves no files behind; to end the others is torchrun's task."""
        self._collectives.close_memory()

    def close(self) -> None:
        """Lets the other processes end."""
        self._collectives.value_of_first(None)
        self._collectives.leave()


class LocalProcesses(SharedProcesses):
    """Processes on this machine, started when the first training begins."""

    def __init__(self, size: int, device: str, start_method: str = "spawn") -> None:
        """Takes what to start.

        Args:
            size: How many processes, this one included.
            device: `"cpu"` or `"cuda"`.
            start_method: Of `multiprocessing`.
        """
        super().__init__(size, size)
        self._device, self._context = device, multiprocessing.get_context(start_method)
        self._collectives: JoinedCollectives | None = None
        self._others: list[multiprocessing.process.BaseProcess] = []
        self._logs: Path | None = None
        self._ends = threading.Event()

    def _joined(self) -> JoinedCollectives:
        if self._collectives is None:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            places = [Place(r, self.size, r, self.size, "127.0.0.1", port, self._device) for r in range(self.size)]
            self._start(places[1:])
            self._collectives = JoinedCollectives(places[0])
            if self._device == "cuda":
                threading.Thread(target=self._watch, daemon=True).start()
        return self._collectives

    def _start(self, places: list[Place]) -> None:
        """Starts the others, and waits until they are ready to join.

        Raises:
            ProcessLostError: If one fails.
        """
        self._logs = Path(tempfile.mkdtemp(prefix="amc-processes-"))
        ready: list[Connection] = []
        for place in places:
            ours, theirs = self._context.Pipe(duplex=False)
            process = self._context.Process(  # type: ignore[attr-defined]  # every context has processes
                target=serve_local, args=(place, theirs, self._log(place.rank)), name=f"amc process {place.rank}"
            )
            process.start()
            theirs.close()
            self._others.append(process)
            ready.append(ours)
        for connection in ready:
            if not wait([connection], _START_S) or not _said(connection):
                raise ProcessLostError("a process did not start")
            connection.close()

    def _log(self, rank: int) -> Path:
        assert self._logs is not None
        return self._logs / f"process-{rank}.txt"

    def _why(self, error: ProcessLostError) -> str:
        """Returns why a process is gone, in its own words if it has left some; ends the others."""
        deadline = time.monotonic() + _NOTICE_S
        while all(process.is_alive() for process in self._others) and time.monotonic() < deadline:
            time.sleep(0.02)
        dead = [(rank, p.exitcode) for rank, p in enumerate(self._others, start=1) if not p.is_alive()]
        words = str(error)
        for rank, code in dead:
            lines = self._log(rank).read_text(encoding="utf-8", errors="replace").strip().splitlines()
            said = lines[-1] if lines and code == 1 else _end_of(code)
            words = f"process {rank} of {self.size} has died ({said})"
            if code != 1 or lines:
                break
        self.abandon()
        return f"{words}; the others are ended"

    def _watch(self) -> None:
        """Ends this process where another is dead and an accelerator waits for it, which may take hours."""
        wait([process.sentinel for process in self._others])
        if not self._ends.wait(_GRACE_S):
            os.write(2, b"amc: error: a process of the training has died; continue with --resume\n")
            os._exit(2)

    def abandon(self) -> None:
        """Ends the other processes at once."""
        self._ends.set()
        for process in self._others:
            process.kill()
        for process in self._others:
            process.join()
        self._others, self._sent = [], None
        if self._collectives is not None:
            self._collectives.leave()
            self._collectives = None
        if self._logs is not None:
            shutil.rmtree(self._logs, ignore_errors=True)
            self._logs = None
        self._ends.clear()

    def close(self) -> None:
        """Lets the other processes end; one that is dead is no loss any more."""
        try:
            if self._collectives is not None:
                self._ends.set()
                with suppress(ProcessLostError):
                    self._collectives.value_of_first(None)
                for process in self._others:
                    process.join(_NOTICE_S)
        finally:
            self.abandon()


@contextmanager
def processes_for(devices: int, device: str) -> Iterator[Processes]:
    """Yields the processes that share the trainings of a run: this one alone, or one for each of several devices.

    Args:
        devices: How many on this machine; what `torchrun` has started counts in its place.
        device: `"auto"`, `"cpu"` or `"cuda"`.

    Raises:
        ConfigurationError: If there are fewer devices, or the library that joins processes is missing.
    """
    check_not_torchrun(devices)
    shared: SharedProcesses
    if under_torchrun():
        kind = kind_of_device(device)
        place = Place.of_torchrun(kind)
        if place.rank:
            raise ConfigurationError(
                "torchrun is for the commands amc compress and amc finetune; in Python give devices=N instead"
            )
        check_devices(place.local_size, kind)
        shared = TorchrunProcesses(kind)
    elif devices == 1:
        yield ONE
        return
    else:
        kind = kind_of_device(device)
        check_devices(devices, kind)
        shared = LocalProcesses(devices, kind)
    try:
        yield shared
    except BaseException:
        shared.abandon()
        raise
    shared.close()


def _said(connection: Connection) -> bool:
    try:
        return bool(connection.recv_bytes())
    except EOFError:
        return False


def _end_of(code: int | None) -> str:
    """Returns how a process has ended, in words."""
    if code is not None and code < 0:
        memory = ", often for want of memory" if -code == signal.SIGKILL else ""
        return f"killed by signal {-code}{memory}"
    return f"exit status {code}"
