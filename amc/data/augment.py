"""Random changes of training images, vectorised over the batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from amc.errors import UnknownNameError

Augmentation = Callable[[Tensor, torch.Generator], Tensor]
"""Maps images `(N, C, H, W)` of any number format to changed ones of the same shape."""


def crop_and_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Crops at random after padding by an eighth of the size, and mirrors every other image: for natural images."""
    return random_flip(random_shift(images, max(1, images.shape[-1] // 8), generator), generator)


def small_shift(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shifts by at most an eighth of the size: for characters, which mean something else when mirrored."""
    return random_shift(images, max(1, images.shape[-1] // 8), generator)


def random_shift(images: Tensor, reach: int, generator: torch.Generator) -> Tensor:
    """Shifts every image by up to `reach` pixels in both directions, filling with zeros.

    Args:
        images: `(N, C, H, W)`.
        reach: Largest shift in pixels.
        generator: A generator on the CPU, whatever the device of the images.
    """
    count, _, height, width = images.shape
    offsets = torch.randint(0, 2 * reach + 1, (2, count), generator=generator).to(images.device)
    padded = functional.pad(images, (reach,) * 4)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)
    return windows[torch.arange(count, device=images.device), :, offsets[0], offsets[1]]


def random_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirrors each image `(C, H, W)` left to right with probability 1/2."""
    mirrored = torch.rand(len(images), generator=generator).to(images.device) < 0.5
    return torch.where(mirrored[:, None, None, None], images.flip(-1), images)


def unchanged(images: Tensor, generator: torch.Generator) -> Tensor:
    """Returns the images as they are."""
    return images


AUGMENTATIONS: dict[str, Augmentation] = {"crop_flip": crop_and_flip, "shift": small_shift, "none": unchanged}


def augmentation(name: str) -> Augmentation:
    """Returns the augmentation of that name.

    Raises:
        UnknownNameError: If there is none.
    """
    if name not in AUGMENTATIONS:
        raise UnknownNameError("augmentation", name, AUGMENTATIONS)
    return AUGMENTATIONS[name]
