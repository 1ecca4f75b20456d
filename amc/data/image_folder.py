"""Folders of images, one folder a class, decoded once into memory."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from amc.data.stratified import stratified_order
from amc.errors import DataError

DecodeProgress = Callable[[int, int], None]
"""Called with (images decoded so far, images in all)."""

Pixels = NDArray[numpy.uint8]

_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff"})
# ImageNet's convention: the shorter side is resized to 256 for a crop of 224.
_CROP_SHARE = 224 / 256
_BLOCK = 500
_WHITE = 65535
_REMEDY = "scale it and save it with 8 or 16 bits"
# Part of the name of what is cached: raise it where the same files are decoded to other pixels.
_DECODING = 2


@dataclass(frozen=True)
class LabelledFiles:
    """Image files and their classes.

    Attributes:
        root: The folder that holds one folder a class.
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

    def limited(self, count: int | None) -> LabelledFiles:
        """Returns `count` files stratified by class; all if `None` or if there are fewer."""
        if count is None or count >= len(self.paths):
            return self
        return self.take(stratified_order(self.targets, 0)[:count].sort().values)


def list_images(root: Path) -> LabelledFiles:
    """Lists the images below a folder of classes.

    Raises:
        DataError: If the folder cannot be read, or holds no folders with images.
    """
    try:
        classes = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith("."))
        found = [(name, _image_files(root / name)) for name in classes]
    except OSError as error:
        raise DataError(f"cannot read the data folder {root}: {error.strerror}; check data.root") from error
    paths = tuple(f"{name}/{file}" for name, files in found for file in files)
    if not paths:
        raise DataError(f"{root} must hold one folder a class with images in it ({', '.join(sorted(_SUFFIXES))})")
    empty = [name for name, files in found if not files]
    if empty:
        raise DataError(f"every class needs images: folder {root / empty[0]} holds none; fill it or remove it")
    targets = torch.tensor([label for label, (_, files) in enumerate(found) for _ in files])
    return LabelledFiles(root, paths, targets, tuple(classes))


def decode(files: LabelledFiles, image_size: int | None, progress: DecodeProgress | None = None) -> Tensor:
    """Decodes images into one tensor.

    Args:
        files: What to decode.
        image_size: Height and width; larger images are resized (the shorter side to 256/224 of it) and cropped at the
            centre. If not given, all images must share a size.
        progress: Told how far it is.

    Returns:
        `(N, 3, H, W)`, uint8, RGB.

    Raises:
        DataError: If a file cannot be decoded, the sizes differ, or the images do not fit into memory.
    """
    first = _decode_one(files.root / files.paths[0], image_size)
    _check_memory(len(files.paths), first)
    images = torch.empty((len(files.paths), *first.shape), dtype=torch.uint8)

    def fill(index: int) -> None:
        image = _decode_one(files.root / files.paths[index], image_size)
        if image.shape != first.shape:
            raise DataError(
                f"all images must share a size, but {files.paths[0]} is {_size(first)} and {files.paths[index]} is "
                f"{_size(image)}; set data.image_size to resize and crop them"
            )
        images[index] = torch.from_numpy(image)

    with ThreadPoolExecutor() as pool:
        for start in range(0, len(images), _BLOCK):
            block = range(start, min(start + _BLOCK, len(images)))
            list(pool.map(fill, block))
            if progress is not None:
                progress(block.stop, len(images))
    return images


def decode_cached(
    files: LabelledFiles, image_size: int | None, cache: Path | None, progress: DecodeProgress | None = None
) -> Tensor:
    """Decodes images, or reads what an earlier call decoded.

    Args:
        files: As for `decode`.
        image_size: As for `decode`.
        cache: The folder of the cache; `None` does without. An entry is named by the root folder and the name, size
            and time of change of every file, so that no stale one is read.
        progress: As for `decode`.

    Raises:
        DataError: As for `decode`.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save_file

    if cache is None:
        return decode(files, image_size, progress)
    entry = cache / f"images-{_fingerprint(files, image_size)}.safetensors"
    try:
        if entry.is_file():
            return load_file(entry)["images"]
    except (SafetensorError, OSError, KeyError):
        pass  # A damaged entry is decoded anew and replaced.
    images = decode(files, image_size, progress)
    unfinished = entry.with_suffix(f".{os.getpid()}")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        save_file({"images": images}, unfinished)
        unfinished.replace(entry)
    except (SafetensorError, OSError):  # A full disk or a read-only home costs time in the next run, and nothing else.
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
    return images


def default_cache_folder() -> Path:
    """Returns the folder `amc` below the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "amc"


def fit_size(image: Image.Image, size: int) -> Image.Image:
    """Resizes and centre-crops an image to a square; images of that size already are returned as they are."""
    width, height = image.size
    if (width, height) == (size, size):
        return image
    shorter = min(width, height)
    target = round(size / _CROP_SHARE) if shorter > size else size
    scaled = image.resize(
        (round(width * target / shorter), round(height * target / shorter)), Image.Resampling.BILINEAR
    )
    left, top = (scaled.width - size) // 2, (scaled.height - size) // 2
    return scaled.crop((left, top, left + size, top + size))


def _image_files(folder: Path) -> list[str]:
    """Returns the names of the image files of a folder, sorted."""
    return sorted(entry.name for entry in os.scandir(folder) if Path(entry.name).suffix.lower() in _SUFFIXES)


def _decode_one(path: Path, image_size: int | None) -> Pixels:
    """Decodes one image to `(3, H, W)`, uint8."""
    try:
        with Image.open(path) as image:
            rgb = _eight_bit(image, path).convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:  # Pillow reports broken PNG files as SyntaxError.
        raise DataError(f"cannot decode the image {path}: {error}; replace or remove it") from error
    if image_size is not None:
        rgb = fit_size(rgb, image_size)
    return numpy.ascontiguousarray(numpy.asarray(rgb).transpose(2, 0, 1))


def _eight_bit(image: Image.Image, path: Path) -> Image.Image:
    """Scales a grey image of 16 bits to 8 bits, which Pillow would clip; leaves others as they are.

    Pillow opens some images of 16 bits in mode `I`, which holds 32.

    Raises:
        DataError: If the image is of a kind that has no defined white.
    """
    if image.mode == "F":
        raise DataError(f"images must hold whole numbers: {path} holds floating-point ones; {_REMEDY}")
    if image.mode != "I" and not image.mode.startswith("I;16"):
        return image
    values = numpy.asarray(image).astype(numpy.int64)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > _WHITE:
        raise DataError(f"grey values must lie in 0 to {_WHITE}: those of {path} go from {low} to {high}; {_REMEDY}")
    return Image.fromarray(((values * 255 + _WHITE // 2) // _WHITE).astype(numpy.uint8))


def _check_memory(count: int, first: Pixels) -> None:
    """Refuses what would not fit: the decoded images may take half of the machine's memory."""
    needed = count * first.nbytes
    if not hasattr(os, "sysconf"):
        return
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory / 2:
        raise DataError(
            f"{count} images of {_size(first)} take {needed / 2**30:.1f} GiB, more than half of the memory "
            f"({memory / 2**30:.1f} GiB); limit them with data.train_images, or choose a smaller data.image_size"
        )


def _size(image: Pixels) -> str:
    """Words the size of an image `(3, H, W)`."""
    return "x".join(str(length) for length in reversed(image.shape[1:]))


def _fingerprint(files: LabelledFiles, image_size: int | None) -> str:
    """Identifies the decoded tensor by what it is decoded from."""
    digest = hashlib.sha256(json.dumps([_DECODING, str(files.root.resolve()), image_size]).encode())
    for path in files.paths:
        try:
            state = (files.root / path).stat()
        except OSError as error:
            raise DataError(f"cannot read the image {files.root / path}: {error}; replace or remove it") from error
        digest.update(f"{path}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:20]
