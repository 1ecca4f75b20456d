"""Images that stay on disk and are decoded in every epoch by worker processes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from amc.data.augment import Augmentation, augmentation
from amc.data.dataset_source import living
from amc.data.image_set import Batch, ImageSet, part_of
from amc.data.memory_share import MOST, exceeds
from amc.data.normalisation import check_statistics, normalised
from amc.data.reading.broken_images import BrokenImages
from amc.data.reading.pictures import Pictures
from amc.data.resized_crop import ResizedCrop
from amc.data.stratified import stratified_order
from amc.data.stream_reader import CHUNK, Part, Plan, StreamReader
from amc.errors import DataError
from amc.utils.progress import Progress, silent

_MOST_WORKERS = 16
_AHEAD = 2
"""Batches that are read ahead."""


@dataclass(frozen=True, eq=False)
class StreamedImages:
    """A labelled split of images on disk; its attributes mean what those of `ImageSet` do.

    What an epoch shows depends on its generator alone, not on the number of workers. An augmentation of whole pictures
    (`ResizedCrop`) is drawn from a seed for each image; the others change batches as they do in memory, to the bit.

    Attributes:
        pictures: All pictures of the data set, of any size.
        positions: `(M,)`, int64: those that belong to the split.
        targets: `(M,)`, int64: the class of each image.
        input_shape: The shape `(C, H, W)` of one image.
        mean: As in `ImageSet`.
        std: As in `ImageSet`.
        class_names: As in `ImageSet`.
        augment: As in `ImageSet`.
        fitted_size: As in `ImageSet`.
        workers: Processes that decode; 0 decodes in this one.
        broken: What becomes of images that cannot be decoded. In training the next image takes their place; elsewhere
            they are left out.
        part: Which part of every training batch is read, from 0, and of how many.
    """

    pictures: Pictures
    positions: Tensor
    targets: Tensor
    input_shape: tuple[int, ...]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    class_names: tuple[str, ...] = ()
    augment: str = "none"
    fitted_size: int | None = None
    workers: int = 0
    broken: BrokenImages = field(default_factory=lambda: BrokenImages(skips=False))
    part: tuple[int, int] = (0, 1)

    def __post_init__(self) -> None:
        """Checks that mean and std fit the channels.

        Raises:
            DataError: If they do not.
        """
        check_statistics(self.mean, self.std, self.input_shape[0])

    def __len__(self) -> int:
        """Returns the number of images."""
        return len(self.positions)

    @property
    def num_classes(self) -> int:
        """The number of classes, named or seen."""
        return max(int(self.targets.max()) + 1 if len(self) else 0, len(self.class_names))

    def take(self, indices: Tensor | Sequence[int]) -> StreamedImages:
        """Returns the images at some positions, in that order."""
        index = torch.as_tensor(indices, dtype=torch.int64)
        return replace(self, positions=self.positions[index], targets=self.targets[index])

    def shard(self, rank: int, size: int) -> StreamedImages:
        """Returns the same images with a part of every training batch, by a part of the processes that decode.

        Every image is changed as it would be in the whole batch; see `amc.training.distributed.shards`.

        Raises:
            DataError: If images of a batch are mixed, which takes those that other parts read.
        """
        if size > 1 and augmentation(self.augment)[1] is not None:
            raise DataError(
                f"streamed images are mixed within one process, and data.augment {self.augment} mixes them; choose "
                "another, or train with devices 1"
            )
        return replace(self, part=(rank, size), workers=-(-self.workers // size))

    def subset(self, count: int, *, seed: int = 0) -> StreamedImages:
        """Returns `count` images (all, if there are fewer), of the same shares of classes, drawn by the seed."""
        return self.take(stratified_order(self.targets, seed)[:count])

    def digest(self) -> str:
        """Identifies the split without decoding it: files by their names and sizes."""
        return self.pictures.digest(self.positions.tolist())

    def batches(
        self,
        size: int,
        *,
        device: torch.device | None = None,
        generator: torch.Generator | None = None,
        channels_last: bool = False,
    ) -> Iterator[Batch]:
        """Iterates once over the images; see `BatchSource.batches`."""
        mixing = None
        if generator is not None:
            change, mixing = augmentation(self.augment)
            read = self._training_images(size, device, generator, change)
        else:
            read = self._read(Plan(torch.arange(len(self)), size, None), None, trains=False)
        for images, places in read:
            images = normalised(images.to(device), self.mean, self.std, channels_last=channels_last)
            batch = images, self.targets[places].to(device)
            yield batch if mixing is None or generator is None else mixing.mix(*batch, self.num_classes, generator)

    def _training_images(
        self, size: int, device: torch.device | None, generator: torch.Generator, change: Augmentation
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields the augmented images of this part of each batch, `(B, C, H, W)`, and their places in the split."""
        size = min(size, len(self))
        order, own = (
            torch.randperm(len(self), generator=generator)[: len(self) // size * size],
            part_of(size, *self.part),
        )
        crop, seeds = change if isinstance(change, ResizedCrop) else None, None
        if crop is not None:
            numbers = int(torch.randint(2**62, (), generator=generator)) + torch.arange(len(order))
            seeds = numbers.view(-1, size)[:, own].reshape(-1)
        plan = Plan(order.view(-1, size)[:, own].reshape(-1), own.stop - own.start, seeds)
        for images, places in self._read(plan, crop, trains=True):
            yield images if crop is not None else _changed(images.to(device), change, generator, size, own), places

    def in_memory(self, advance: Progress = silent) -> ImageSet:
        """Decodes all images of the split, without augmentation, to uint8; broken ones are left out.

        Args:
            advance: Takes the share that is done.

        Raises:
            DataError: If they take more than half of the memory, or one is broken and that is refused.
        """
        shape = (len(self), *self.input_shape)
        needed = torch.Size(shape).numel()
        if exceeds(MOST, needed):
            raise DataError(
                f"the {len(self)} images of a split that is kept in memory take {needed / 2**30:.1f} GiB, more than "
                "half of the memory; give a smaller data.search_images, data.calibration_images or data.image_size"
            )
        images, kept = torch.empty(shape, dtype=torch.uint8), torch.empty(len(self), dtype=torch.int64)
        count = 0
        for part, places in self._read(Plan(torch.arange(len(self)), CHUNK, None), None, trains=False):
            images[count : count + len(part)], kept[count : count + len(part)] = part, places
            count += len(part)
            advance(min(1.0, (int(places[-1]) + 1) / len(self)))
        targets = self.targets[kept[:count]]
        return ImageSet(
            images[:count], targets, self.mean, self.std, self.class_names, self.augment, fitted_size=self.fitted_size
        )

    def _read(self, plan: Plan, crop: ResizedCrop | None, *, trains: bool) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields the images of each batch, `(B, C, H, W)`, uint8, and their places in the split.

        Raises:
            DataError: If an image cannot be used, or a worker process has died.
        """
        reader = StreamReader(
            self.pictures, self.positions.numpy(), self.input_shape, self.fitted_size, crop, replaces=trains
        )
        workers = min(self.workers, len(plan)) if len(plan) > 1 else 0
        options: dict[str, Any] = {}
        if workers:
            options["prefetch_factor"] = max(2, -(-_AHEAD * max(plan.per_batch) // workers))
        loader = DataLoader(
            reader,
            batch_size=None,
            sampler=plan,
            num_workers=workers,
            collate_fn=_unchanged,
            generator=torch.Generator().manual_seed(0),  # workers draw nothing; the global generator is left alone
            **options,
        )
        parts = living(loader)
        for chunks in plan.per_batch:
            found = [self._accepted(part) for part in islice(parts, chunks)]
            places = [place for part in found for place in part.places]
            if places:
                images = found[0].images if len(found) == 1 else torch.cat([p.images for p in found if p.places])
                yield images, torch.tensor(places)
        self.broken.say()

    def _accepted(self, part: Part) -> Part:
        """Returns what a worker has read, and counts what it could not.

        Raises:
            DataError: If broken images are refused, or too many, or an image has another size.
        """
        for name, message in part.broken:
            self.broken.add(name, message, len(self))
        if part.error:
            raise DataError(part.error)
        return part


def default_workers() -> int:
    """Returns how many processes decode: one for each processor that this one may use, at most 16."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(_MOST_WORKERS, usable)


def _unchanged(part: Any) -> Any:
    return part


def _changed(images: Tensor, change: Augmentation, generator: torch.Generator, size: int, own: slice) -> Tensor:
    """Augments a part of a batch of some size, with the numbers that are drawn for the whole batch."""
    if len(images) == size:
        return change(images, generator)
    whole = images.new_zeros((size, *images.shape[1:]))
    whole[own] = images
    return change(whole, generator)[own]
