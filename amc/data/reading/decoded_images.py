"""Decoding all images of a folder into memory, once: the result is kept in the user's cache folder."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from amc.data.memory_share import MOST, exceeds
from amc.data.reading.broken_images import BrokenImages
from amc.data.reading.cache_entries import keep_entry, read_entry
from amc.data.reading.decoding import decode_image, quiet_decoding
from amc.data.reading.image_folder import LabelledFiles
from amc.data.reading.pictures import first_shape
from amc.errors import DataError
from amc.utils.progress import Progress, silent

_BLOCK = 500
# Part of the names of cache entries: raise it when the same files are decoded to other pixels.
_DECODING = 2


def decode(
    files: LabelledFiles, image_size: int | None, broken: BrokenImages, advance: Progress = silent
) -> tuple[Tensor, Tensor]:
    """Decodes images into one tensor.

    Args:
        files: What to decode.
        image_size: Height and width; larger images are resized (the shorter side to 256/224 of it) and cropped at the
            centre. If not given, all images must share a size.
        broken: What becomes of images that cannot be decoded.
        advance: Takes the share that is done, 0 to 1, as it grows.

    Returns:
        `(K, 3, H, W)`, uint8, RGB; and `(K,)`, int64: which files they are.

    Raises:
        DataError: If a file cannot be decoded, the sizes differ, or the images do not fit into memory.
    """
    shape = first_shape(files.pictures(), range(len(files.paths)), image_size, broken)
    needed = len(files.paths) * math.prod(shape)
    if exceeds(MOST, needed):
        raise DataError(
            f"{len(files.paths)} images of {_size(shape)} take {needed / 2**30:.1f} GiB, more than half of the memory; "
            "limit them with data.train_images, choose a smaller data.image_size, or let them stream from disk with "
            "data.memory 0"
        )
    images = torch.empty((len(files.paths), *shape), dtype=torch.uint8)
    with quiet_decoding():
        whole = _fill(images, files, image_size, broken, advance)
    if len(whole) == len(images):
        return images, whole
    return images[whole], whole


def _fill(
    images: Tensor, files: LabelledFiles, image_size: int | None, broken: BrokenImages, advance: Progress
) -> Tensor:
    """Decodes files into the rows of a tensor; returns the rows that hold images."""
    shape = tuple(images.shape[1:])

    def fill(index: int) -> str:
        try:
            image = decode_image(files.root / files.paths[index], image_size)
        except DataError as error:
            return str(error)
        if image.shape != shape:
            raise DataError(
                f"all images must share a size, but {files.paths[index]} is {_size(image.shape)} and others are "
                f"{_size(shape)}; set data.image_size to resize and crop them"
            )
        images[index] = torch.from_numpy(image)
        return ""

    whole: list[int] = []
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(images), _BLOCK):
            block = range(start, min(start + _BLOCK, len(images)))
            for index, message in zip(block, pool.map(fill, block), strict=True):
                if message:
                    broken.add(files.paths[index], message, len(images))
                else:
                    whole.append(index)
            advance(block.stop / len(images))
    return torch.tensor(whole, dtype=torch.int64)


def decode_cached(
    files: LabelledFiles,
    image_size: int | None,
    cache: Path | None,
    broken: BrokenImages,
    advance: Progress = silent,
) -> tuple[Tensor, Tensor]:
    """Decodes images, or reads the result of an earlier call.

    Args:
        files: As for `decode`.
        image_size: As for `decode`.
        cache: The folder of the cache; `None` does without. An entry is named by the root folder and the name, size
            and time of change of every file, so that no stale one is read.
        broken: As for `decode`.
        advance: As for `decode`.

    Returns:
        As `decode` does.

    Raises:
        DataError: As for `decode`.
    """
    if cache is None:
        return decode(files, image_size, broken, advance)
    entry = cache / f"images-{_fingerprint(files, image_size, broken.skips)}.safetensors"
    kept = _read_entry(entry, files, broken)
    if kept is not None:
        return kept
    images, whole = decode(files, image_size, broken, advance)
    keep_entry(entry, {"images": images, "whole": whole})
    return images, whole


def _read_entry(entry: Path, files: LabelledFiles, broken: BrokenImages) -> tuple[Tensor, Tensor] | None:
    """Reads an entry of the cache; None if there is none, or a damaged one, which is replaced then."""
    found = read_entry(entry)
    if "images" not in found:
        return None
    images = found["images"]
    every = torch.arange(len(files.paths))
    whole = found.get("whole", every)
    fits = images.dtype == torch.uint8 and images.dim() == 4 and images.shape[:2] == (len(whole), 3)
    if not fits or len(whole) > len(every) or not torch.isin(whole, every).all():
        return None
    for index in every[~torch.isin(every, whole)].tolist():
        broken.add(files.paths[index], f"cannot decode the image {files.paths[index]}", len(every))
    return images, whole


def _size(shape: Sequence[int]) -> str:
    """Describes the size of an image `(3, H, W)`."""
    return "x".join(str(length) for length in reversed(shape[1:]))


def _fingerprint(files: LabelledFiles, image_size: int | None, skips: bool) -> str:
    """Identifies the decoded tensor by its source files."""
    digest = hashlib.sha256(
        json.dumps([_DECODING, str(files.root.resolve()), image_size, *(["skip"] if skips else [])]).encode()
    )
    for path in files.paths:
        try:
            state = (files.root / path).stat()
        except OSError as error:
            raise DataError(f"cannot read the image {files.root / path}: {error}; replace or remove it") from error
        digest.update(os.fsencode(f"{path}\0{state.st_size}\0{state.st_mtime_ns}\n"))
    return digest.hexdigest()[:20]
