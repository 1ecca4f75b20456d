"""Images held in memory, and batches of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from amc.data.augment import augmentation
from amc.data.normalisation import check_statistics, normalised
from amc.data.stratified import stratified_order
from amc.errors import DataError

Batch = tuple[Tensor, Tensor]
"""Normalised images `(B, C, H, W)` and their classes `(B,)`, int64, or other targets `(B, ...)`."""


class BatchSource(Protocol):
    """The data of training and evaluation: a labelled split that yields batches."""

    def __len__(self) -> int:
        """Returns the number of images."""

    def batches(
        self,
        size: int,
        *,
        device: torch.device | None = None,
        generator: torch.Generator | None = None,
        channels_last: bool = False,
    ) -> Iterator[Batch]:
        """Iterates once over the images.

        Args:
            size: Images in a batch.
            device: Where the batches are put.
            generator: If given, this is training: the order is shuffled, images are augmented, and a last batch that
                is not full is left out. If not, the images come in order and as they are, to the last one.
            channels_last: Whether the batches are laid out channels-last.
        """


@dataclass(frozen=True, eq=False)
class ImageSet:
    """A labelled split of images of one size, normalised as they are read.

    Attributes:
        images: `(N, C, H, W)`; uint8 from 0 to 255, or floating point, ready for the network except for `mean` and
            `std`.
        targets: `(N,)`, int64: the class of each image; or `(N, ...)` for other tasks (see `amc.data.tasks`).
        mean: One number a channel, subtracted after uint8 images were scaled to [0, 1]; empty leaves images unchanged.
        std: One number per channel, divided by after that.
        class_names: Names of the classes, where known.
        augment: The augmentation for training, from `augment.AUGMENTATIONS`.
        as_given: Whether the images are returned in their own number format and scale: for inputs
            that their owner has prepared, tokens among them.
        fitted_size: Height and width to which images of other sizes were resized and cropped; None if they are as they
            were.
        batch_size: Items in a batch of the user's own loader; None if there is none.
        part: Which part of every training batch is returned, from 0, and of how many.
    """

    images: Tensor
    targets: Tensor
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    class_names: tuple[str, ...] = ()
    augment: str = "none"
    as_given: bool = False
    fitted_size: int | None = None
    batch_size: int | None = None
    part: tuple[int, int] = (0, 1)

    def __post_init__(self) -> None:
        """Checks that the parts fit each other.

        Raises:
            DataError: If images and targets differ in number, or mean and std do not fit the channels.
        """
        if self.targets.dim() < 1:
            raise DataError("targets must be one an image, (N, ...), not a single number")
        if len(self.images) != len(self.targets):
            raise DataError(f"every image needs a target: {len(self.images)} images, {len(self.targets)} targets")
        check_statistics(self.mean, self.std, self.images.shape[1] if self.images.dim() > 1 else 0)

    def __len__(self) -> int:
        """Returns the number of images."""
        return len(self.images)

    @property
    def num_classes(self) -> int:
        """The number of classes, named or seen; where an image has several targets, their number."""
        if self.targets.dim() > 1:
            return int(self.targets.shape[1])
        seen = int(self.targets.max()) + 1 if len(self) else 0
        return max(seen, len(self.class_names))

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape `(C, H, W)` of one image."""
        return tuple(self.images.shape[1:])

    def take(self, indices: Tensor | Sequence[int]) -> ImageSet:
        """Returns the images at some positions, in that order."""
        index = torch.as_tensor(indices, dtype=torch.int64)
        return replace(self, images=self.images[index], targets=self.targets[index])

    def shard(self, rank: int, size: int) -> ImageSet:
        """Returns the same images with a part of every training batch; see `amc.training.distributed.shards`."""
        return replace(self, part=(rank, size))

    def subset(self, count: int, *, seed: int = 0) -> ImageSet:
        """Returns `count` images (all, if there are fewer), of the same shares of classes, drawn by the seed."""
        return self.take(stratified_order(self.targets, seed)[:count])

    def to(self, device: torch.device) -> ImageSet:
        """Returns the same images on another device."""
        return replace(self, images=self.images.to(device), targets=self.targets.to(device))

    def inputs(self, *, channels_last: bool = False) -> Tensor:
        """Returns all images normalised, `(N, C, H, W)` in float32; as they are if `as_given`."""
        return self.normalised(self.images, channels_last)

    def batches(
        self,
        size: int,
        *,
        device: torch.device | None = None,
        generator: torch.Generator | None = None,
        channels_last: bool = False,
    ) -> Iterator[Batch]:
        """Iterates once over the images; see `BatchSource.batches`."""
        if generator is not None:
            yield from self._training_batches(size, device, generator, channels_last)
            return
        for images, targets in zip(torch.split(self.images, size), torch.split(self.targets, size), strict=True):
            yield self.normalised(images.to(device), channels_last), targets.to(device)

    def _training_batches(
        self, size: int, device: torch.device | None, generator: torch.Generator, channels_last: bool
    ) -> Iterator[Batch]:
        """Shuffles and augments; the last batch is left out unless it is full or the only one."""
        change, mixing = augmentation(self.augment)
        size = min(size, len(self))
        order = torch.randperm(len(self), generator=generator)
        for start in range(0, len(self) - size + 1, size):
            index = order[start : start + size].to(self.images.device)
            images = change(self.images[index].to(device), generator)
            own = part_of(len(index), *self.part)
            if mixing is None:
                yield self.normalised(images[own], channels_last), self.targets[index[own]].to(device)
                continue
            batch = self.normalised(images, channels_last), self.targets[index].to(device)
            mixed, shares = mixing.mix(*batch, self.num_classes, generator)
            yield mixed[own], shares[own]

    def normalised(self, images: Tensor, channels_last: bool = False) -> Tensor:
        """Scales to [0, 1] if uint8, then subtracts the mean and divides by the standard deviation, in float32."""
        if self.as_given:
            plain = not channels_last or images.dim() != 4
            return images if plain else images.contiguous(memory_format=torch.channels_last)
        return normalised(images, self.mean, self.std, channels_last=channels_last)


def part_of(count: int, rank: int, size: int) -> slice:
    """Returns which of the items of a batch belong to one of several equal parts."""
    return slice(count * rank // size, count * (rank + 1) // size)


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Returns how many batches of training images an epoch has."""
    return max(1, images // batch_size)
