"""Decoding all images of a folder into memory, once: the result is kept in the user's cache folder."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from amc.data.decoding import Pixels, decode_image
from amc.data.image_folder import LabelledFiles
from amc.errors import DataError
from amc.utils.durable_files import remove_abandoned, replacing
from amc.utils.progress import Progress, silent

_BLOCK = 500
# Part of the names of cache entries: raise it when the same files are decoded to other pixels.
_DECODING = 2


def decode(files: LabelledFiles, image_size: int | None, advance: Progress = silent) -> Tensor:
    """Decodes images into one tensor.

    Args:
        files: What to decode.
        image_size: Height and width; larger images are resized (the shorter side to 256/224 of it) and cropped at the
            centre. If not given, all images must share a size.
        advance: Takes the share that is done, 0 to 1, as it grows.

    Returns:
        `(N, 3, H, W)`, uint8, RGB.

    Raises:
        DataError: If a file cannot be decoded, the sizes differ, or the images do not fit into memory.
    """
    # Pillow warns of images above half its limit, without naming them; they are decoded anyway.
    with warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning):
        return _decode(files, image_size, advance)


def _decode(files: LabelledFiles, image_size: int | None, advance: Progress) -> Tensor:
    first = decode_image(files.root / files.paths[0], image_size)
    _check_memory(len(files.paths), first)
    images = torch.empty((len(files.paths), *first.shape), dtype=torch.uint8)

    def fill(index: int) -> None:
        image = decode_image(files.root / files.paths[index], image_size)
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
            advance(block.stop / len(images))
    return images


def decode_cached(
    files: LabelledFiles, image_size: int | None, cache: Path | None, advance: Progress = silent
) -> Tensor:
    """Decodes images, or reads the result of an earlier call.

    Args:
        files: As for `decode`.
        image_size: As for `decode`.
        cache: The folder of the cache; `None` does without. An entry is named by the root folder and the name, size
            and time of change of every file, so that no stale one is read.
        advance: As for `decode`.

    Raises:
        DataError: As for `decode`.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save_file

    if cache is None:
        return decode(files, image_size, advance)
    entry = cache / f"images-{_fingerprint(files, image_size)}.safetensors"
    try:
        if entry.is_file():
            kept = load_file(entry)["images"]
            if kept.dtype == torch.uint8 and kept.dim() == 4 and kept.shape[:2] == (len(files.paths), 3):
                return kept
    except (SafetensorError, OSError, KeyError):
        pass  # A damaged entry is decoded again and replaced.
    images = decode(files, image_size, advance)
    # A full disk or a read-only home only costs time in the next run.
    with suppress(SafetensorError, OSError):
        cache.mkdir(parents=True, exist_ok=True)
        remove_abandoned(cache)
        with replacing(entry) as unfinished:
            save_file({"images": images}, unfinished)
    return images


def default_cache_folder() -> Path:
    """Returns the folder `amc` below the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "amc"


def _check_memory(count: int, first: Pixels) -> None:
    """Rejects images that would not fit: once decoded they may take half of the machine's memory."""
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
    """Describes the size of an image `(3, H, W)`."""
    return "x".join(str(length) for length in reversed(image.shape[1:]))


def _fingerprint(files: LabelledFiles, image_size: int | None) -> str:
    """Identifies the decoded tensor by its source files."""
    digest = hashlib.sha256(json.dumps([_DECODING, str(files.root.resolve()), image_size]).encode())
    for path in files.paths:
        try:
            state = (files.root / path).stat()
        except OSError as error:
            raise DataError(f"cannot read the image {files.root / path}: {error}; replace or remove it") from error
        digest.update(os.fsencode(f"{path}\0{state.st_size}\0{state.st_mtime_ns}\n"))
    return digest.hexdigest()[:20]
