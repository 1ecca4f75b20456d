"""Decoding one image file to pixels."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy
from numpy.typing import NDArray
from PIL import EpsImagePlugin, Image, UnidentifiedImageError

from amc.errors import DataError
from amc.utils.bounded_files import opened

Pixels = NDArray[numpy.uint8]

# ImageNet's convention: the shorter side is resized to 256 for a crop of 224.
CROP_SHARE = 224 / 256
_FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""What Pillow decodes by itself, whatever a file's name says: it hands EPS to Ghostscript, a program that runs code."""
_WHITE = 65535
_MOST_PIXELS = 1 << 26
_BROKEN_REMEDY = "replace or remove it, or leave such images out with data.broken skip"
_REMEDY = "scale it and save it with 8 or 16 bits"


def decode_image(path: Path, image_size: int | None) -> Pixels:
    """Decodes one image to `(3, H, W)`, uint8, RGB.

    Args:
        path: The file.
        image_size: Height and width to resize and crop to; the image's own if None.

    Raises:
        DataError: If the file cannot be decoded; the message names it.
    """
    with opened_image(path) as image:
        return channels_first(whole(image, path, image_size))


def opened_image(path: Path) -> AbstractContextManager[Image.Image]:
    """Opens an image file, whose pixels are read when they are first asked for.

    Raises:
        DataError: If it cannot be opened or, within the context, decoded; the message names it.
    """
    return image_in(opened(path), path)


@contextmanager
def image_in(content: AbstractContextManager[BinaryIO], name: Path | str) -> Iterator[Image.Image]:
    """Opens the image in a file that is not yet opened; see `opened_image`.

    Args:
        content: Opens the file.
        name: What messages call it.
    """
    try:
        with content as file, Image.open(file, formats=_formats()) as image:
            _check_pixels(name, *image.size)
            yield image
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        raise DataError(
            f"images must have at most {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels, and {name} has more; "
            "scale it down or remove it"
        ) from error
    except UnidentifiedImageError as error:  # whose message names the file's object
        raise DataError(
            f"cannot decode the image {name}: it is damaged, or in no known format; {_BROKEN_REMEDY}"
        ) from error
    except Exception as error:  # Pillow raises errors of any kind on damaged files, including struct.error
        raise DataError(f"cannot decode the image {name}: {error}; {_BROKEN_REMEDY}") from error


@cache
def _formats() -> tuple[str, ...]:
    """Returns those of `_FORMATS` that this Pillow has."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


@contextmanager
def without_programs() -> Iterator[None]:
    """Keeps Pillow from starting Ghostscript, where a library opens images itself, of any format."""
    before, EpsImagePlugin.gs_binary = EpsImagePlugin.gs_binary, False
    try:
        yield
    finally:
        EpsImagePlugin.gs_binary = before


def quiet_decoding() -> AbstractContextManager[object]:
    """Silences Pillow's warning of images above half its limit, which does not name them; they are decoded anyway."""
    return warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning)


def whole(image: Image.Image, path: Path | str, size: int | None, mode: str = "RGB") -> Image.Image:
    """Returns all of an image in a Pillow mode, resized and centre-cropped to a square if `size` is given."""
    plain = eight_bit(image, path).convert(mode)
    if size is None:
        return plain
    shorter, longer = sorted(plain.size)
    _check_pixels(path, 2 * size, 2 * size * longer // shorter)
    return fit_size(plain, size)


def channels_first(image: Image.Image) -> Pixels:
    """Returns the pixels of an image as `(C, H, W)`, uint8; grey ones have one channel."""
    pixels = numpy.asarray(image)
    return numpy.ascontiguousarray(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))


def _check_pixels(path: Path | str, width: int, height: int) -> None:
    """Rejects an image that takes too much memory, at its own or at its target size.

    Raises:
        DataError: If it has too many pixels.
    """
    if width * height > _MOST_PIXELS:
        raise DataError(
            f"images must have at most {_MOST_PIXELS:,} pixels, also when they are resized to data.image_size, and "
            f"{path} has {width}x{height}; scale or crop it, or remove it"
        )


def fit_size(image: Image.Image, size: int) -> Image.Image:
    """Resizes and centre-crops an image to a square; images of that size already are returned as they are."""
    width, height = image.size
    if (width, height) == (size, size):
        return image
    shorter = min(width, height)
    target = round(size / CROP_SHARE) if shorter > size else size
    scaled = image.resize(
        (round(width * target / shorter), round(height * target / shorter)), Image.Resampling.BILINEAR
    )
    left, top = (scaled.width - size) // 2, (scaled.height - size) // 2
    return scaled.crop((left, top, left + size, top + size))


def eight_bit(image: Image.Image, path: Path | str) -> Image.Image:
    """Scales a grey image of 16 bits to 8 bits, which Pillow would clip; leaves others as they are.

    Pillow opens some images of 16 bits in mode `I`, which holds 32.

    Raises:
        DataError: If the image's format has no defined white.
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
