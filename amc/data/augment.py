"""Random changes of training images, vectorised over the batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from amc.data.mixing import CutMix, Mixing, MixUp
from amc.data.rand_augment import RandAugment
from amc.data.resized_crop import ResizedCrop
from amc.errors import ConfigurationError
from amc.utils.options import create
from amc.utils.registry import Registry

Augmentation = Callable[[Tensor, torch.Generator], Tensor]
"""Maps images `(N, C, H, W)` of any number format to changed ones of the same shape."""


@dataclass(frozen=True)
class CropFlip:
    """Crops at random after padding, and mirrors every other image: for natural images.

    Attributes:
        reach: Padding on every side, as a share of the images' width, 0 to 1.
    """

    reach: float = 1 / 8

    def __post_init__(self) -> None:
        """Checks the option."""
        _check_share(self.reach)

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Changes images `(N, C, H, W)`."""
        return random_flip(random_shift(images, _pixels(images, self.reach), generator), generator)


@dataclass(frozen=True)
class Shift:
    """Shifts at random: for characters, whose meaning changes when mirrored.

    Attributes:
        reach: Largest shift, as a share of the images' width, 0 to 1.
    """

    reach: float = 1 / 8

    def __post_init__(self) -> None:
        """Checks the option."""
        _check_share(self.reach)

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Changes images `(N, C, H, W)`."""
        return random_shift(images, _pixels(images, self.reach), generator)


@dataclass(frozen=True)
class Unchanged:
    """Leaves the images as they are."""

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Returns images `(N, C, H, W)`."""
        return images


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


def _pixels(images: Tensor, share: float) -> int:
    """Returns a share of the width in pixels, at least one."""
    return max(1, int(images.shape[-1] * share))


def _check_share(reach: float) -> None:
    if not 0 <= reach <= 1:
        raise ConfigurationError(f"the reach of an augmentation must be a share of the width, 0 to 1, not {reach:g}")


AUGMENTATIONS: Registry[Callable[..., Augmentation]] = Registry("augmentation", "amc.augmentations", method="__call__")
"""Every augmentation's factory by name; see `amc.utils.options`."""

AUGMENTATIONS.register("crop_flip", CropFlip, "random crops and mirror images, for natural images")
AUGMENTATIONS.register("resized_crop", ResizedCrop, "random parts, resized, and mirror images, for large images")
AUGMENTATIONS.register("rand_augment", RandAugment, "resized_crop, then random changes of colour and shape")
AUGMENTATIONS.register("mixup", MixUp, "means of two images and of their labels")
AUGMENTATIONS.register("cutmix", CutMix, "a rectangle of another image, labels by area")
AUGMENTATIONS.register("shift", Shift, "small shifts, for characters")
AUGMENTATIONS.register("none", Unchanged, "images as they are")


def augmentation(chosen: str) -> tuple[Augmentation, Mixing | None]:
    """Returns what changes images, and what mixes them with their labels afterwards, if anything does."""
    change = create(AUGMENTATIONS, chosen)
    return (create(AUGMENTATIONS, change.first), change) if isinstance(change, Mixing) else (change, None)
