"""Reading whole files safely: ordinary ones, up to a size, in UTF-8."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

MEBIBYTE = 1 << 20


class DamagedFileError(ValueError):
    """Content that does not belong into a file of its kind; the reader of the file adds the remedy."""


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Opens an ordinary file for reading; pipes and devices, which may never end, are not read.

    Raises:
        OSError: If it cannot be opened, or is not an ordinary file.
    """
    # Without waiting for a writer, where the path is a pipe.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        raise OSError(f"{path} is not an ordinary file")
    with os.fdopen(descriptor, "rb") as file:
        yield file


def read_bytes(path: Path, most: int) -> bytes:
    """Reads a file, up to a number of bytes.

    Raises:
        OSError: If it cannot be read, or is not an ordinary file.
        DamagedFileError: If it is larger.
    """
    with opened(path) as file:
        # Python takes the memory that is asked for before it reads: ask for no more than the file has.
        content = file.read(min(most, os.fstat(file.fileno()).st_size) + 1)
        while len(content) <= most and (more := file.read(MEBIBYTE)):  # it has grown
            content += more
    if len(content) > most:
        raise DamagedFileError(f"{path} must have at most {most:,} bytes, and has more")
    return content


def read_text(path: Path, most: int) -> str:
    """Reads a text in UTF-8, up to a number of bytes.

    Raises:
        OSError: If it cannot be read, or is not an ordinary file.
        DamagedFileError: If it is larger, or not in UTF-8.
    """
    try:
        return read_bytes(path, most).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DamagedFileError(f"{path} must be text in UTF-8: {error}") from error
