"""Small tensors between the processes of one machine, through memory that they share."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from amc.errors import ProcessLostError

_SLOT_BYTES = 1 << 16
"""The most that a process hands over at once: mean and variance of 8,192 channels."""
_LINE_BYTES = 64  # a line of the cache for each counter, so that waiting does not slow the others' writing
_EAGER_S, _LOOK_S, _SLEEP_S = 0.05, 1.0, 0.0005
"""How long a process looks for the others without sleeping; how often it makes sure that they live; how long it
sleeps meanwhile."""
_FOLDER, _LEFT_S = "amc-exchange-", 3600.0
"""How folders of exchanges begin; the age, in seconds, at which one that nobody has locked is taken for left over."""


class SharedMemory:
    """Hands small tensors to all processes of a machine.

    gloo sends them through sockets and lets a process sleep until the others have come, which takes 2 ms where all are
    busy: a synchronised batch norm would wait longer than it computes. Here a process polls for a moment before it
    sleeps. Two sets of slots take turns: a process that writes into one knows that all have read what it held before,
    because all have come to the exchange in between.
    """

    def __init__(self, folder: Path, rank: int, size: int, patience_s: float) -> None:
        """Opens the memory that `create` has made, and lets the others see that this process lives.

        Args:
            folder: Of all processes.
            rank: The number of this process, from 0.
            size: How many there are.
            patience_s: Seconds after which a process that does not come is lost.
        """
        self._folder, self._rank, self._size, self._patience_s = folder, rank, size, patience_s
        self._lock = FileLock(folder / f"{rank}.lock", timeout=0, thread_local=False)
        self._lock.acquire()  # held until this process ends, however it ends
        counters = _LINE_BYTES * size
        length = counters + 2 * size * _SLOT_BYTES
        memory = numpy.memmap(folder / "memory", dtype=numpy.uint8, mode="r+", shape=(length,))
        self._arrived = memory[:counters].view(numpy.int64)[:: _LINE_BYTES // 8]
        self._slots = torch.from_numpy(memory[counters:].reshape(2, size, _SLOT_BYTES))
        self._fence = threading.Lock()  # orders the writes: those before its release are seen before those after it
        self._turn = 0

    @staticmethod
    def create(size: int) -> Path | None:
        """Makes the folder of all processes, for the first one to call; None if the disk is full or takes none."""
        folder = None
        try:
            folder = Path(tempfile.mkdtemp(prefix=_FOLDER))
            _remove_left(folder.parent)
            (folder / "memory").write_bytes(bytes(_LINE_BYTES * size + 2 * size * _SLOT_BYTES))
        except OSError:
            if folder is not None:
                SharedMemory.remove(folder)
            return None
        return folder

    @staticmethod
    def remove(folder: Path) -> None:
        """Removes what `create` has made."""
        shutil.rmtree(folder, ignore_errors=True)

    @classmethod
    def opened(cls, folder: Path, rank: int, size: int, patience_s: float) -> SharedMemory | None:
        """Opens the memory as the constructor does; returns None if this system or its disk does not allow it."""
        try:
            return cls(folder, rank, size, patience_s)
        except (OSError, NotImplementedError):  # the latter where the file system has no locks
            return None

    @staticmethod
    def takes(tensor: Tensor) -> bool:
        """Returns whether a tensor is small enough."""
        return tensor.device.type == "cpu" and 0 < tensor.numel() * tensor.element_size() <= _SLOT_BYTES

    def gathered(self, tensor: Tensor) -> Tensor:
        """Returns the tensors of all processes, `(size, ...)`; all give one of the same shape and format.

        Raises:
            ProcessLostError: If another process has ended, or does not come.
        """
        self._turn += 1
        given = tensor.detach().resolve_conj().resolve_neg().contiguous().reshape(-1).view(torch.uint8)
        slots = self._slots[self._turn % 2, :, : len(given)]
        with self._fence:
            slots[self._rank].copy_(given)
        with self._fence:
            self._arrived[self._rank] = self._turn
        self._wait()
        with self._fence:
            found = slots.clone()
        return found.view(tensor.dtype).reshape(self._size, *tensor.shape)

    def close(self) -> None:
        """Gives the lock back; the first process removes the folder."""
        self._lock.release()
        if self._rank == 0:
            self.remove(self._folder)

    def _wait(self) -> None:
        """Waits until all have come."""
        start = looked = time.monotonic()
        while self._arrived.min() < self._turn:
            now = time.monotonic()
            if now - start < _EAGER_S:
                _give_way()
                continue
            if now - looked > _LOOK_S:
                looked = now
                self._check_others(now - start)
            time.sleep(_SLEEP_S)

    def _check_others(self, waited_s: float) -> None:
        """Raises if one of those that have not come never will."""
        for rank in range(self._size):
            if self._arrived[rank] >= self._turn:
                continue
            path = self._folder / f"{rank}.lock"
            lock = FileLock(path, timeout=0)
            with suppress(Timeout):
                if not path.exists():  # something cleaned up temporary files: that says nothing
                    raise Timeout(str(path))
                lock.acquire()
                lock.release()
                raise ProcessLostError(f"another process of the training is gone (number {rank})")
            if waited_s > self._patience_s:
                raise ProcessLostError(f"another process of the training does not answer (number {rank})")


def _remove_left(temporary: Path) -> None:
    """Removes what processes have left that were killed: folders that are old, and whose files nobody has locked.

    Those of other users, and links, are left alone: what they hold is not to be trusted.
    """
    user = os.getuid() if hasattr(os, "getuid") else 0
    for folder in temporary.glob(f"{_FOLDER}*"):
        with suppress(OSError, Timeout):
            held = folder.lstat()
            if stat.S_ISDIR(held.st_mode) and held.st_uid == user and time.time() - held.st_mtime > _LEFT_S:
                for path in folder.glob("*.lock"):
                    with FileLock(path, timeout=0):
                        pass
                shutil.rmtree(folder)


def _give_way() -> None:
    """Lets another process have the processor, if one wants it."""
    if hasattr(os, "sched_yield"):
        os.sched_yield()
    else:
        time.sleep(0)
