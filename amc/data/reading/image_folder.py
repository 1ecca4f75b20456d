"""Folders of images, one folder per class."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from amc.data.reading.pictures import FilePictures, PackedNames
from amc.data.stratified import stratified_order
from amc.errors import DataError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff"})
_NO_FOLDERS = frozenset({"__MACOSX"})
"""Extra entries of archives made on a Mac."""


@dataclass(frozen=True)
class LabelledFiles:
    """Image files and their classes.

    Attributes:
        root: The folder that holds one folder per class.
        paths: The files, sorted within their class, relative to `root`.
        targets: `(N,)`, int64.
        class_names: The folders' names, sorted.
    """

    root: Path
    paths: tuple[str, ...]
    targets: Tensor
    class_names: tuple[str, ...]

    def take(self, indices: Tensor) -> LabelledFiles:
        """Returns the files at some positions."""
        paths = tuple(self.paths[index] for index in indices.tolist())
        return LabelledFiles(self.root, paths, self.targets[indices], self.class_names)

    def pictures(self) -> FilePictures:
        """Returns the files as pictures that are opened one at a time."""
        return FilePictures(self.root, PackedNames.of(self.paths))

    def limited(self, count: int | None) -> LabelledFiles:
        """Returns `count` files stratified by class; all if `None` or if there are fewer."""
        if count is None or count >= len(self.paths):
            return self
        return self.take(stratified_order(self.targets, 0)[:count].sort().values)


def list_images(root: Path) -> LabelledFiles:
    """Lists the images below a folder of classes, those in folders within a class included, as torchvision does.

    Hidden files and folders are left out, and so are extra entries of archives made on a Mac. Links to folders are
    followed wherever they lead, but not to a folder that they lie in, which holds other classes, or all of the disk.

    Raises:
        DataError: If the folder cannot be read, holds no folders with images, or a link in it cannot be followed.
    """
    try:
        with os.scandir(root) as entries:
            classes = sorted(entry.name for entry in entries if not _is_hidden(entry.name) and _is_folder(entry))
        found = [(name, list(_image_files(root, name))) for name in classes]
    except OSError as error:
        raise DataError(
            f"cannot read {error.filename or root} of the data folder {root}: {error.strerror}; check data.root"
        ) from error
    paths = tuple(file for _, files in found for file in files)
    if not paths:
        raise DataError(f"{root} must hold one folder a class with images in it ({', '.join(sorted(IMAGE_SUFFIXES))})")
    empty = [name for name, files in found if not files]
    if empty:
        raise DataError(f"every class needs images: folder {root / empty[0]} holds none; fill it or remove it")
    targets = torch.tensor([label for label, (_, files) in enumerate(found) for _ in files])
    return LabelledFiles(root, paths, targets, tuple(_printable(name) for name in classes))


def _image_files(root: Path, name: str) -> Iterator[str]:
    """Yields the image files of a class, relative to `root`: those of a folder, then those of the folders in it."""
    top, seen = os.path.realpath(root), set()  # links may lead in a circle

    def stop(error: OSError) -> None:
        raise error

    for folder, inner, files in os.walk(root / name, followlinks=True, onerror=stop):
        place = os.path.realpath(folder)
        if place in seen:
            inner.clear()
            continue
        if os.path.islink(folder) and _holds(place, top, os.path.realpath(os.path.dirname(folder))):
            raise DataError(
                f"a link in a data folder must not lead to a folder that it lies in, as {folder} does, to {place}; "
                "remove it, or let it lead to a folder of one class"
            )
        seen.add(place)
        inner[:] = sorted(entry for entry in inner if not _is_hidden(entry))
        below = Path(folder).relative_to(root)
        for file in sorted(files):
            if Path(file).suffix.lower() in IMAGE_SUFFIXES and not _is_hidden(file):
                yield str(below / file)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Returns whether an entry is a folder or a link to one.

    Raises:
        DataError: If it is a link that leads nowhere: without it there would be one class less.
    """
    if entry.is_symlink() and not os.path.exists(entry.path):
        raise DataError(
            f"links in a data folder must lead somewhere, and {entry.path} leads nowhere; remove or mend it"
        )
    return entry.is_dir()


def _holds(folder: str, *places: str) -> bool:
    """Returns whether one of the places is a folder, or lies in it; all paths are without links."""
    return any(Path(place).is_relative_to(folder) for place in places)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in _NO_FOLDERS


def _printable(name: str) -> str:
    """Returns a folder's name as text that every file and terminal takes, whatever bytes it is made of."""
    return os.fsencode(name).decode("utf-8", "replace")
