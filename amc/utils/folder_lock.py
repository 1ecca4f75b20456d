"""A folder in which only one process works at a time, or a file that only one writes."""

from __future__ import annotations

import errno
import json
import os
import socket
import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from amc.errors import RunFolderError
from amc.utils.durable_files import remove_unfinished_of, short_name, write_text
from amc.utils.plain_json import read_json

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""Errors of a file system that has no locks."""


def refuse_links(folder: Path, names: Iterable[str]) -> None:
    """Rejects links among the files and folders that are written in a folder: in someone else's they may lead anywhere.

    Raises:
        RunFolderError: If one is a link.
    """
    for name in names:
        if (folder / name).is_symlink():
            raise RunFolderError(
                f"{folder / name} must lie in the folder itself, and is a link, through which nothing is written; "
                "delete the link"
            )


@dataclass(frozen=True)
class Holder:
    """Who works in a folder, as it has written there.

    Attributes:
        process: The number of the process.
        host: The machine.
        stages: What it does, one stage within another.
        start: When it began, in the system's own count, which tells it from a later process of its number; None where
            the system does not say.
    """

    process: Any
    host: Any
    stages: tuple[str, ...] = ()
    start: Any = None

    @staticmethod
    def read(file: Path) -> Holder | None:
        """Reads what a holder has written; None if there is none, or its file, which may be damaged, names nobody."""
        try:
            record = read_json(file)
            stages = record.get("stages")
            told = tuple(map(str, stages)) if isinstance(stages, list) else ()
            return Holder(record["process"], record["host"], told, record.get("start"))
        except (OSError, ValueError, KeyError, AttributeError):
            return None

    def __str__(self) -> str:
        """Names the process, for people."""
        return f"process {self.process} on {self.host}"

    def write(self, file: Path) -> None:
        """Writes the file that `read` reads."""
        record = {"host": self.host, "process": self.process, "stages": list(self.stages), "start": self.start}
        write_text(file, json.dumps(record) + "\n")

    def has_died(self) -> bool:
        """Returns whether it is a process of this machine that is known to be gone: a kill leaves its name behind."""
        if not self._is_here():
            return False
        try:
            os.kill(self.process, 0)  # sends nothing, and fails if there is no such process
        except ProcessLookupError:
            return True
        except (OSError, OverflowError):  # someone else's, or no number of a process
            pass
        # After a restart of the machine, or of a container, another process has its number.
        start = _state_and_start(self.process)[1]
        return None not in (start, self.start) and start != self.start

    def is_suspended(self) -> bool:
        """Returns whether it is a process of this machine that is known to be halted, as by Ctrl-Z."""
        return self._is_here() and _state_and_start(self.process)[0] in ("T", "t")

    def _is_here(self) -> bool:
        process = self.process
        return os.name == "posix" and self.host == socket.gethostname() and isinstance(process, int) and process > 0


def _state_and_start(process: int) -> tuple[str | None, int | None]:
    """Returns the state of a process and when it began, in ticks; None on systems that do not say, other than Linux."""
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()  # the name before it may hold anything
        return fields[0], int(fields[19])
    except (OSError, ValueError, IndexError):
        return None, None


class FolderLock:
    """Keeps other processes out of a folder, on any machine that shares its file system.

    The lock is the operating system's (`flock`), which ends with the process that holds it, however that process ends:
    a dead holder's lock is taken over. On NFS it holds between machines where the server grants locks (Linux from
    2.6.12); on a file system without locks, a warning says so.
    """

    def __init__(
        self, folder: Path, name: str = ".lock", *, inner: Collection[str] = (), file: Path | None = None
    ) -> None:
        """Takes a folder.

        Args:
            folder: The folder; it exists when the lock is taken.
            name: The file in it that is locked.
            inner: Folders in it for output.
            file: What the lock is for, if it is a single file and not the folder.
        """
        self._inner = tuple(inner)
        self._words_for = (folder, "folder") if file is None else (file, "file")
        self._folder, self._file = folder, folder / name
        self._holder = folder / f"{name}.json"
        self._lock = FileLock(str(self._file), timeout=0, thread_local=False)

    def acquire(self) -> None:
        """Takes the lock.

        Raises:
            RunFolderError: If another process has it; the message names its host and process. Or if the file, or one of
                the folders for output, is a link.
            OSError: If the folder cannot be written.
        """
        refuse_links(self._folder, (self._file.name, *self._inner))
        try:
            self._lock.acquire()
        except Timeout as error:
            place, kind = self._words_for
            raise RunFolderError(
                f"{place} is in use by {self._words()}; wait for it, end it, or give another {kind}"
            ) from error
        except (NotImplementedError, OSError) as error:
            if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
                raise
            warnings.warn(
                f"the file system of {self._folder} has no locks ({error}); let no second process work there",
                RuntimeWarning,
                stacklevel=2,
            )
        self._write()

    def tell(self, lines: Sequence[str]) -> None:
        """Says in what stage the work is, for those who look from elsewhere.

        Args:
            lines: The stages, one within another.

        Raises:
            RunFolderError: If the folder is gone, or another's: what is still to come would be lost with it, or be
                written into a new folder that nobody has locked.
        """
        if not self._lock.is_locked:
            return
        loss = self.loss()
        if loss is not None and (self._successor() is not None or self._is_empty()):
            raise RunFolderError(loss)
        with suppress(OSError):
            self._write(lines)

    def _write(self, stages: Sequence[str] = ()) -> None:
        """Writes who works here, and at what."""
        start = _state_and_start(os.getpid())[1]
        Holder(os.getpid(), socket.gethostname(), tuple(stages), start).write(self._holder)

    def release(self) -> None:
        """Gives the lock back; does nothing if it is not held."""
        if not self._lock.is_locked:
            return
        with suppress(OSError):
            if self._successor() is None:
                self._holder.unlink(missing_ok=True)
        with suppress(OSError):  # the folder may be gone
            self._lock.release()

    def loss(self) -> str | None:
        """Says what became of the folder if it is not where it was locked; None if it is, or is not locked."""
        if not self._lock.is_locked:
            return None
        lost = f"{self._folder} was deleted, moved or emptied while it was worked in"
        if (successor := self._successor()) is not None:
            return f"{lost}, and {successor} works there now"
        return None if self._file.exists() else lost

    def _successor(self) -> Holder | None:
        """Returns who has taken the folder's place since it was locked; None if nobody has."""
        found = Holder.read(self._holder)
        own = (os.getpid(), socket.gethostname())
        return None if found is None or (found.process, found.host) == own else found

    def _is_empty(self) -> bool:
        """Returns whether there is no folder, or nothing in it but what a lock writes."""
        try:
            names = {entry.name for entry in self._folder.iterdir()}
        except OSError as error:
            return isinstance(error, FileNotFoundError | NotADirectoryError)
        return names <= {self._file.name, self._holder.name}

    def _words(self) -> str:
        """Describes the holder, from what it wrote into the file."""
        return str(Holder.read(self._holder) or "another process")


@contextmanager
def sole_writer(file: Path) -> Iterator[None]:
    """Keeps other processes from writing a file within the context, and deletes what killed ones have left of it.

    It also shows, before any work, that the file can be written; its folder is made.

    Args:
        file: The file, which is written at once; see `amc.utils.durable_files.replacing`.

    Raises:
        RunFolderError: If another process writes it, or its folder cannot be written.
    """
    lock = FolderLock(file.parent, f".{short_name(file.name)}.lock", file=file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        remove_unfinished_of(file)
    except OSError as error:
        lock.release()
        raise RunFolderError(f"the folder of {file} must be writable: {error}; choose another --out") from error
    try:
        yield
    finally:
        lock.release()
