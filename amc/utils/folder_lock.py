"""A folder in which only one process works at a time."""

from __future__ import annotations

import errno
import json
import os
import socket
import warnings
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from amc.errors import RunFolderError
from amc.utils.durable_files import write_text
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


class FolderLock:
    """Keeps other processes out of a folder, on any machine that shares its file system.

    The lock is the operating system's (`flock`), which ends with the process that holds it, however that process ends:
    a dead holder's lock is taken over. On NFS it holds between machines where the server grants locks (Linux from
    2.6.12); on a file system without locks, a warning says so.
    """

    def __init__(self, folder: Path, name: str = ".lock", *, inner: Collection[str] = ()) -> None:
        """Takes a folder that exists, the name of the file in it that is locked, and of folders in it for output."""
        self._inner = tuple(inner)
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
            raise RunFolderError(
                f"{self._folder} is in use by {self._words()}; wait for it, end it, or give another folder"
            ) from error
        except (NotImplementedError, OSError) as error:
            if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
                raise
            warnings.warn(
                f"the file system of {self._folder} has no locks ({error}); let no second process work there",
                RuntimeWarning,
                stacklevel=2,
            )
        write_text(self._holder, json.dumps({"host": socket.gethostname(), "process": os.getpid()}) + "\n")

    def release(self) -> None:
        """Gives the lock back; does nothing if it is not held."""
        if not self._lock.is_locked:
            return
        with suppress(OSError):
            self._holder.unlink(missing_ok=True)
        with suppress(OSError):  # the folder may be gone
            self._lock.release()

    def loss(self) -> str | None:
        """Says what became of the folder if it is not where it was locked; None if it is, or is not locked."""
        if not self._lock.is_locked or self._file.exists():
            return None
        return f"{self._folder} was deleted, moved or emptied while it was worked in"

    def _words(self) -> str:
        """Describes the holder, from what it wrote into the file."""
        try:
            record = read_json(self._holder)
            return f"process {record['process']} on {record['host']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "another process"
