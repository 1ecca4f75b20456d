"""The one place that writes files: a kill or a power cut leaves the old file or the new one, and whole lines."""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from amc.utils.digests import digest_of_text

_UNFINISHED = re.compile(r"\.\d+\.part$")
"""Names of files that a killed process has not finished: with its number, as other programs' `.part` is the user's."""
_LONGEST_NAME = 200
_SYNC_SHARE = 100
"""Waiting for the disk may take at most one part in this many of the time."""
_LONGEST_WAIT_S = 1.0
"""Longest time between two confirmations by the disk while lines are added, in seconds."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary file beside `path` to be written, which then replaces `path` at once.

    The content reaches the disk before the name does, and the name does before the context ends. After an error the old
    file is unchanged.

    Args:
        path: The file; its folder exists.

    Raises:
        OSError: If the folder cannot be written.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    partial = path.with_name(_partial_name(path.name))
    partial.unlink(missing_ok=True)
    partial.touch()
    mode = partial.stat().st_mode  # safetensors makes files that only their owner may read; all are to be alike
    try:
        yield partial
        partial.chmod(mode)
        put_in_place(partial, path)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Replaces a file by a text in UTF-8; see `replacing`."""
    with replacing(path) as partial:
        partial.write_bytes(text.encode("utf-8"))


def put_in_place(source: Path, target: Path) -> None:
    """Renames a finished file on the same file system; its content reaches the disk before its new name."""
    with source.open("rb+") as file:
        os.fsync(file.fileno())
    source.replace(target)
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Makes the disk confirm the names in a folder; Windows, where folders cannot be opened, does so by itself."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_unfinished(folder: Path, inner: Iterable[str] = ()) -> list[Path]:
    """Deletes half-written files of killed processes in a folder; returns the deleted ones.

    Call it only while no other process writes there.

    Args:
        folder: The folder.
        inner: The folders in it where processes write, too; others are the user's, and left alone.
    """
    places = [folder, *(place for name in inner if (place := folder / name).is_dir())]
    files = [file for place in places for file in sorted(place.iterdir())]
    found = [file for file in files if is_unfinished(file.name) and file.is_file()]
    for file in found:
        with suppress(OSError):
            file.unlink()
    return found


def remove_unfinished_of(file: Path) -> None:
    """Deletes what killed processes have left of a single file; call it only while no other process writes that."""
    begun = short_name(file.name)
    for left in file.parent.iterdir():
        if left.name.startswith(begun) and _UNFINISHED.fullmatch(left.name, len(begun)) and left.is_file():
            with suppress(OSError):
                left.unlink()


def remove_abandoned(folder: Path, age_s: float = 86_400.0) -> list[Path]:
    """Deletes abandoned half-written files in a folder that several processes write to; returns the deleted ones.

    A file counts as abandoned when nobody has written in it for that many seconds: its writer may run on another
    machine. If the writer does resume, putting the file in place fails with an `OSError`.
    """
    found = []
    for file in sorted(folder.iterdir()):
        with suppress(OSError):
            if is_unfinished(file.name) and file.is_file() and time.time() - file.stat().st_mtime > age_s:
                file.unlink()
                found.append(file)
    return found


def is_unfinished(name: str) -> bool:
    """Returns whether a file's name is that of one that a process has not finished."""
    return _UNFINISHED.search(name) is not None


def free_name(path: Path) -> Path:
    """Returns `path`, or the first of `path-2`, `path-3`, ... that does not exist."""
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free


class Appender:
    """Adds lines to a file, each in one write.

    The disk confirms a line at once where that takes under a hundredth of the time, else as soon as it does, and once a
    second at least while lines come. The file is opened for each line, so that a deleted folder is noticed.
    """

    def __init__(self, path: Path) -> None:
        """Takes the file; it need not exist, its folder must."""
        self._path = path
        self._synced_at, self._cost, self._pending = float("-inf"), 0.0, False

    def add(self, line: str) -> None:
        """Adds a line, its end included; after an error the file is as it was.

        Raises:
            OSError: If the line cannot be written.
        """
        is_new = not self._path.exists()
        with open(self._path, "ab", buffering=0, opener=open_no_link) as file:
            start = file.seek(0, os.SEEK_END)
            try:
                rest = memoryview(line.encode("utf-8"))
                while rest:
                    rest = rest[file.write(rest) :]
            except OSError:
                with suppress(OSError):
                    file.truncate(start)
                raise
            self._pending = True
            if time.monotonic() - self._synced_at >= min(_LONGEST_WAIT_S, _SYNC_SHARE * self._cost):
                self._sync(file.fileno())
        if is_new:
            sync_folder(self._path.parent)

    def finish(self) -> None:
        """Makes the disk confirm the pending lines; does nothing if the file is gone."""
        if not self._pending:
            return
        with suppress(OSError), self._path.open("rb+") as file:
            self._sync(file.fileno())

    def _sync(self, descriptor: int) -> None:
        start = time.monotonic()
        os.fsync(descriptor)
        self._synced_at = time.monotonic()
        self._cost, self._pending = self._synced_at - start, False


def open_no_link(path: str, flags: int) -> int:
    """Opens a file, but not through a link: a link in someone else's folder may lead to any of the user's files."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def short_name(name: str) -> str:
    """Returns a name, or what stands for a long one: with some letters more it is one that file systems allow."""
    return name if len(name.encode("utf-8")) <= _LONGEST_NAME else digest_of_text(name)


def _partial_name(name: str) -> str:
    """Returns the name of an unfinished file, unique to this process and no longer than file systems allow."""
    return f"{short_name(name)}.{os.getpid()}.part"
