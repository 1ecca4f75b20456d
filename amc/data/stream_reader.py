"""What worker processes do for a stream of images: decode, cut and resize, a few images at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from amc.data.reading.decoding import Pixels, channels_first, eight_bit, quiet_decoding, whole
from amc.data.reading.pictures import Pictures
from amc.data.resized_crop import ResizedCrop
from amc.errors import DataError

CHUNK = 32
"""Images that a worker decodes at a time. Few, so that what waits in shared memory stays small."""
_MOST_TRIES = 100
_MODES = {1: "L", 3: "RGB"}


class Chunk(NamedTuple):
    """What to read: places of images in a split, and a seed for each where they are augmented."""

    places: Sequence[int]
    seeds: Sequence[int]


class Part(NamedTuple):
    """What was read of a chunk.

    Attributes:
        images: `(K, C, H, W)`, uint8.
        places: The place of each in the split.
        broken: Names of images that could not be decoded, and the messages.
        error: Why the stream has to end; empty if it has not.
    """

    images: Tensor
    places: list[int]
    broken: list[tuple[str, str]]
    error: str


@dataclass(frozen=True)
class StreamReader(Dataset[Part]):
    """Reads chunks of a split.

    Attributes:
        pictures: All pictures.
        positions: `(M,)`: those that belong to the split.
        shape: Of every image, `(C, H, W)`.
        fitted_size: Height and width that images are resized and cropped to; None if they have the shape as they are.
        crop: Draws a part of each picture; None takes the middle.
        replaces: Whether the next image that can be decoded takes the place of a broken one, so that batches stay full.
    """

    pictures: Pictures
    positions: NDArray[numpy.int64]
    shape: tuple[int, ...]
    fitted_size: int | None
    crop: ResizedCrop | None = None
    replaces: bool = False

    def __getitem__(self, chunk: Chunk) -> Part:
        """Reads the images of a chunk; those that are broken are left out, or replaced. Never raises `DataError`."""
        images = numpy.empty((len(chunk.places), *self.shape), dtype=numpy.uint8)
        found: list[int] = []
        broken: list[tuple[str, str]] = []
        for number, place in enumerate(chunk.places):
            seed = chunk.seeds[number] if chunk.seeds else 0
            for tried in self._tries(place):
                try:
                    pixels = self._pixels(tried, seed)
                except DataError as error:
                    broken.append((self.pictures.name(int(self.positions[tried])), str(error)))
                    continue
                if pixels.shape != self.shape:
                    return Part(torch.empty(0), [], broken, self._other_size(tried, pixels))
                images[len(found)] = pixels
                found.append(tried)
                break
        return Part(torch.from_numpy(images[: len(found)]), found, broken, "")

    def _tries(self, place: int) -> Iterator[int]:
        """Yields the places to try: itself, and the next ones where a broken image is replaced."""
        for step in range(min(_MOST_TRIES, len(self.positions)) if self.replaces else 1):
            yield (place + step) % len(self.positions)

    def _pixels(self, place: int, seed: int) -> Pixels:
        """Reads one image `(C, H, W)`.

        Raises:
            DataError: If it cannot be decoded.
        """
        index = int(self.positions[place])
        name, mode = self.pictures.name(index), _MODES[self.shape[0]]
        with quiet_decoding(), self.pictures.opened(index) as image:
            if self.crop is None:
                return channels_first(whole(image, name, self.fitted_size, mode))
            generator = torch.Generator().manual_seed(seed)
            pixels = channels_first(_cut(image, name, self.crop, self.shape, mode, generator))
        return numpy.asarray(self.crop.finish(torch.from_numpy(pixels), generator))

    def _other_size(self, place: int, pixels: Pixels) -> str:
        sizes = ("x".join(map(str, reversed(shape[1:]))) for shape in (pixels.shape, self.shape))
        return (
            "all images must share a size, but {} is {}, and others are {}; set data.image_size to resize and crop them"
        ).format(self.pictures.name(int(self.positions[place])), *sizes)


def _cut(
    image: Image.Image, name: str, crop: ResizedCrop, shape: tuple[int, ...], mode: str, generator: torch.Generator
) -> Image.Image:
    """Cuts a random part out of an opened picture and resizes it."""
    width, height = image.size
    (left, top, wide, tall), mirrored = crop.part(width, height, generator)
    target = shape[2], shape[1]
    # JPEG decodes to a half, a quarter or an eighth in less time, where that is still as large as what is wanted.
    image.draft(None, (math.ceil(width * target[0] / wide), math.ceil(height * target[1] / tall)))
    across, down = image.width / width, image.height / height
    box = (left * across, top * down, (left + wide) * across, (top + tall) * down)
    rounded = (int(box[0]), int(box[1]), max(int(box[0]) + 1, round(box[2])), max(int(box[1]) + 1, round(box[3])))
    part = eight_bit(image, name).convert(mode).crop(rounded).resize(target, Image.Resampling.BILINEAR)
    return part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else part


class Plan(Sampler[Chunk]):
    """The chunks of an epoch, in order; no chunk reaches over the end of a batch."""

    def __init__(self, order: Tensor, size: int, seeds: Tensor | None) -> None:
        """Plans an epoch.

        Args:
            order: Places of images in the split.
            size: Images in a batch.
            seeds: A seed for each image; None if images are not augmented one by one.
        """
        self._order, self._size, self._seeds = order, size, seeds
        self.per_batch = [math.ceil(min(size, len(order) - start) / CHUNK) for start in range(0, len(order), size)]
        """How many chunks each batch has."""

    def __len__(self) -> int:
        """Returns the number of chunks."""
        return sum(self.per_batch)

    def __iter__(self) -> Iterator[Chunk]:
        """Yields the chunks."""
        for start in range(0, len(self._order), self._size):
            for first in range(start, min(start + self._size, len(self._order)), CHUNK):
                own = slice(first, min(first + CHUNK, start + self._size))
                yield Chunk(self._order[own].tolist(), [] if self._seeds is None else self._seeds[own].tolist())
