"""Random parts of pictures, resized: the usual augmentation for large images."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from amc.errors import ConfigurationError

Box = tuple[int, int, int, int]
"""Left, top, width and height of a part, in pixels."""

_TRIES = 10
_RATIOS = (3 / 4, 4 / 3)


@dataclass(frozen=True)
class ResizedCrop:
    """Cuts out a random part, resizes it to the whole, and mirrors every other image: for large natural images.

    Szegedy et al. 2014, arXiv:1409.4842, section 6: the area is uniform between `least` and 1, the logarithm of width /
    height between those of 3/4 and 4/3. Where images stream from disk it sees the whole file; of images in memory only
    what the centre crop has left.

    Attributes:
        least: Smallest share of the area, above 0, at most 1.
        mirror: Whether every other image is mirrored.
    """

    least: float = 0.08
    mirror: bool = True

    def __post_init__(self) -> None:
        """Checks the options."""
        if not 0 < self.least <= 1:
            raise ConfigurationError(f"resized_crop: least must be a share of the area, in (0, 1], not {self.least:g}")

    def part(self, width: int, height: int, generator: torch.Generator) -> tuple[Box, bool]:
        """Draws a part of a picture, and whether it is mirrored; the largest in the middle if ten draws do not fit.

        Args:
            width: Of the picture, in pixels.
            height: Of the picture, in pixels.
            generator: Draws.
        """
        box = self._box(width, height, generator)
        return box, self.mirror and _uniform(0, 1, generator) < 0.5

    def finish(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """Changes one image `(C, H, W)`, uint8, once it is cut and resized: here not at all."""
        return image

    def _box(self, width: int, height: int, generator: torch.Generator) -> Box:
        low, high = (math.log(ratio) for ratio in _RATIOS)
        for _ in range(_TRIES):
            area = width * height * _uniform(self.least, 1, generator)
            ratio = math.exp(_uniform(low, high, generator))
            wide, tall = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < wide <= width and 0 < tall <= height:
                left, top = _below(width - wide + 1, generator), _below(height - tall + 1, generator)
                return left, top, wide, tall
        wide, tall = min(width, round(height * _RATIOS[1])), min(height, round(width / _RATIOS[0]))
        return (width - wide) // 2, (height - tall) // 2, wide, tall

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Changes images `(N, C, H, W)` in memory, each by itself."""
        height, width = images.shape[-2:]
        changed = torch.empty_like(images)
        for index, image in enumerate(images):
            (left, top, wide, tall), mirrored = self.part(width, height, generator)
            part = image[None, :, top : top + tall, left : left + wide].float()
            resized = functional.interpolate(part, (height, width), mode="bilinear", antialias=True)[0]
            if not images.is_floating_point():
                resized = resized.round()
            resized = (resized.flip(-1) if mirrored else resized).to(images.dtype)
            changed[index] = self.finish(resized, generator)
        return changed


def _uniform(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))


def _below(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=generator))
