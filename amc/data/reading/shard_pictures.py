"""Pictures inside tar files, read from their places and never extracted."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy
from numpy.typing import NDArray
from PIL import Image

from amc.data.reading.decoding import image_in
from amc.data.reading.pictures import PackedNames, digest_of_files
from amc.errors import DataError
from amc.utils.bounded_files import opened

_MOST_BYTES = 1 << 28


def state_of(status: os.stat_result) -> tuple[int, int]:
    """Returns the size and the time of change of a file: another content is expected to differ in one of them."""
    return status.st_size, status.st_mtime_ns


@dataclass(frozen=True)
class ShardPictures:
    """Image files inside uncompressed tar files.

    Attributes:
        shards: The tar files.
        shard: `(N,)`: which of them holds each image.
        offsets: `(N,)`: where its content begins there.
        sizes: `(N,)`: its length in bytes.
        names: Its name there.
        states: Size and time of change of each tar file, from when its headers were read; see `state_of`.
    """

    shards: tuple[Path, ...]
    shard: NDArray[numpy.int64]
    offsets: NDArray[numpy.int64]
    sizes: NDArray[numpy.int64]
    names: PackedNames
    states: tuple[tuple[int, int], ...]

    def name(self, index: int) -> str:
        """Returns the name of the shard and that of the file inside it."""
        return f"{self.shards[self.shard[index]].name}:{self.names[index]}"

    def opened(self, index: int) -> AbstractContextManager[Image.Image]:
        """Opens an image; see `Pictures.opened`."""
        return image_in(self._content(index), self.name(index))

    @contextmanager
    def _content(self, index: int) -> Iterator[BinaryIO]:
        size = int(self.sizes[index])
        if size > _MOST_BYTES:
            raise DataError(
                f"the file of an image must have at most {_MOST_BYTES:,} bytes, and {self.name(index)} has {size:,}; "
                "scale it down or remove it"
            )
        with opened(self.shards[self.shard[index]]) as file:
            if state_of(os.fstat(file.fileno())) != self.states[self.shard[index]]:
                raise DataError(
                    f"shards must stay as they are while they are used, and that of {self.name(index)} has changed; "
                    "put it back, or start another run"
                )
            file.seek(int(self.offsets[index]))
            yield BytesIO(file.read(size))

    def digest(self, indices: Iterable[int]) -> str:
        """Identifies images by their names, sizes and places, and by the sizes of the shards; they are not read."""
        digest = digest_of_files(self.shards, "shard")
        for index in indices:
            place = f"{self.names[index]}\0{self.shard[index]} {self.offsets[index]} {self.sizes[index]}\n"
            digest.update(os.fsencode(place))
        return digest.hexdigest()
