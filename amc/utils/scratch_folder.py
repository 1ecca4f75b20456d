"""A folder for unfinished files beside those that they become; a killed process leaves one, and the next removes it."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

_LOCK, _FILES = ".lock", "files"
_A_DAY_S = 86_400.0


@contextmanager
def scratch_folder(place: Path, prefix: str) -> Iterator[Path]:
    """Yields a new folder below `place` that is gone afterwards, and removes those that killed processes have left.

    It is locked as long as this process lives, so that others know that it is in use.

    Args:
        place: A folder that exists.
        prefix: How the names of such folders begin, which nothing else there has.

    Raises:
        OSError: If `place` cannot be written.
    """
    for folder in sorted(place.glob(f"{prefix}*")):
        if folder.is_dir() and not folder.is_symlink() and _is_abandoned(folder):
            shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=place) as name:
        lock = FileLock(str(Path(name) / _LOCK), timeout=0, thread_local=False)
        with suppress(NotImplementedError, OSError):  # without locks nobody else gets this one either
            lock.acquire()
        files = Path(name) / _FILES
        files.mkdir()
        try:
            yield files
        finally:
            lock.release()


def _is_abandoned(folder: Path) -> bool:
    """Returns whether nobody works in a folder: its lock is free, or it has none and has not changed for a day."""
    lock = folder / _LOCK
    if lock.is_symlink() or not lock.is_file():
        return time.time() - folder.stat().st_mtime > _A_DAY_S
    free = FileLock(str(lock), timeout=0)
    try:
        free.acquire()
    except (Timeout, NotImplementedError, OSError):
        return False
    free.release()
    return True
