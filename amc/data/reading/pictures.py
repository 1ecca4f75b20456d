"""Collections of pictures that are opened one at a time, by any process."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy
from numpy.typing import NDArray
from PIL import Image

from amc.data.reading.broken_images import BrokenImages
from amc.data.reading.decoding import channels_first, opened_image, quiet_decoding, whole, without_programs
from amc.errors import DataError
from amc.runtime.call import first_line
from amc.utils.digests import digest_of_text


class Pictures(Protocol):
    """Pictures by number. It travels to worker processes, so it holds no pixels and no open files."""

    def name(self, index: int) -> str:
        """Returns what messages call a picture."""

    def opened(self, index: int) -> AbstractContextManager[Image.Image]:
        """Opens a picture.

        Raises:
            DataError: If it cannot be opened or, within the context, decoded; the message names it.
        """

    def digest(self, indices: Iterable[int]) -> str:
        """Identifies some of the pictures without decoding them."""


@dataclass(frozen=True)
class PackedNames:
    """Many texts in two arrays: a million Python strings would be copied, page by page, into every worker process.

    Attributes:
        content: All texts, one after another, as the file system spells them.
        ends: `(N,)`: where each ends in `content`.
    """

    content: bytes
    ends: NDArray[numpy.int64]

    @classmethod
    def of(cls, names: Iterable[str]) -> PackedNames:
        """Packs texts."""
        parts = [os.fsencode(name) for name in names]
        return cls(b"".join(parts), numpy.cumsum([len(part) for part in parts], dtype=numpy.int64))

    def __getitem__(self, index: int) -> str:
        """Returns one text."""
        start = int(self.ends[index - 1]) if index else 0
        return os.fsdecode(self.content[start : int(self.ends[index])])


@dataclass(frozen=True)
class FilePictures:
    """Image files below a folder.

    Attributes:
        root: The folder.
        names: The files, relative to it.
    """

    root: Path
    names: PackedNames

    def name(self, index: int) -> str:
        """Returns a file's path below the folder."""
        return self.names[index]

    def opened(self, index: int) -> AbstractContextManager[Image.Image]:
        """Opens a file; see `Pictures.opened`."""
        return opened_image(self.root / self.names[index])

    def digest(self, indices: Iterable[int]) -> str:
        """Identifies files by their names and sizes; their content is not read."""
        digest = hashlib.sha256()
        for index in indices:
            name = self.names[index]
            try:
                size = os.stat(os.path.join(self.root, name)).st_size
            except OSError as error:
                raise DataError(f"cannot read the image {self.root / name}: {error}; replace or remove it") from error
            digest.update(os.fsencode(f"{name}\0{size}\n"))
        return digest.hexdigest()


@dataclass(frozen=True)
class DatasetPictures:
    """The pictures of a torchvision data set.

    Attributes:
        title: Its name.
        dataset: Its items are pairs of a Pillow image and a class.
    """

    title: str
    dataset: Any

    def name(self, index: int) -> str:
        """Returns a number with the data set's name."""
        return f"number {index} of {self.title}"

    @contextmanager
    def opened(self, index: int) -> Iterator[Image.Image]:
        """Reads an item; see `Pictures.opened`."""
        try:
            with without_programs():
                yield self.dataset[index][0]
        except DataError:
            raise
        except Exception as error:  # whatever Pillow and the data set raise on damaged files
            raise DataError(
                f"cannot decode the image {self.name(index)}: {first_line(error)}; fetch the data set again, or leave "
                "such images out with --data.broken skip"
            ) from error

    def digest(self, indices: Iterable[int]) -> str:
        """Identifies items by the data set's name and their numbers."""
        return digest_of_text(f"{self.title} {len(self.dataset)} {list(indices)}")


def first_shape(
    pictures: Pictures, indices: Sequence[int], image_size: int | None, broken: BrokenImages
) -> tuple[int, ...]:
    """Returns the shape `(3, H, W)` of the images: that of the first that can be decoded, if no size is given.

    Raises:
        DataError: If there is a broken image before it, and such are refused.
    """
    if image_size is not None:
        return 3, image_size, image_size
    for index in indices:
        try:
            with quiet_decoding(), pictures.opened(index) as image:
                return channels_first(whole(image, pictures.name(index), None)).shape
        except DataError as error:
            broken.add(pictures.name(index), str(error), len(indices))
    raise DataError(f"none of the {len(indices)} images can be decoded; check data.root")


def digest_of_files(files: Iterable[Path], what: str, title: str = "") -> hashlib._Hash:
    """Returns a SHA-256 of a title and of the names and sizes of files, which are not read; more may be added.

    Raises:
        DataError: If a file cannot be looked at; `what` says what it is.
    """
    digest = hashlib.sha256(title.encode())
    for file in files:
        try:
            digest.update(os.fsencode(f"{file.name}\0{file.stat().st_size}\n"))
        except OSError as error:
            raise DataError(f"cannot read the {what} {file}: {error}; check data.root") from error
    return digest
