"""Labelled pictures as splits: streamed from where they are, or decoded into memory."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from amc.data.image_set import ImageSet
from amc.data.memory_share import exceeds
from amc.data.reading.pictures import Pictures, first_shape
from amc.data.sources.source_options import IMAGENET_STATISTICS, SourceOptions, Splits, Statistics, augmentation_for
from amc.data.splits import test_share
from amc.data.stratified import stratified_order
from amc.data.streamed_images import StreamedImages
from amc.errors import DataError
from amc.utils.progress import Progress, spanning


@dataclass(frozen=True)
class LabelledPictures:
    """The pictures of a split and their classes.

    Attributes:
        pictures: The pictures of the split, and others too.
        positions: `(M,)`, int64: which of them belong to the split.
        targets: `(M,)`, int64: the classes of those.
        class_names: Names of all classes.
    """

    pictures: Pictures
    positions: Tensor
    targets: Tensor
    class_names: tuple[str, ...]

    @classmethod
    def every(cls, pictures: Pictures, targets: Tensor, class_names: tuple[str, ...]) -> LabelledPictures:
        """Returns a split of all pictures of a collection, whose classes are `targets`."""
        return cls(pictures, torch.arange(len(targets)), targets, class_names)

    def __len__(self) -> int:
        """Returns the number of pictures."""
        return len(self.positions)

    def take(self, indices: Tensor) -> LabelledPictures:
        """Returns the pictures at some positions of the split."""
        return replace(self, positions=self.positions[indices], targets=self.targets[indices])

    def limited(self, count: int | None) -> LabelledPictures:
        """Returns `count` pictures stratified by class, in their order; all if `None` or if there are fewer."""
        if count is None or count >= len(self):
            return self
        return self.take(stratified_order(self.targets, 0)[:count].sort().values)

    def stream(
        self, shape: tuple[int, ...], statistics: Statistics, augment: str, options: SourceOptions, fitted: int | None
    ) -> StreamedImages:
        """Returns the pictures as images of one shape `(C, H, W)`, decoded as they are asked for.

        Args:
            shape: Of each image.
            statistics: Mean and standard deviation.
            augment: The augmentation for images in memory.
            options: Says what decodes, and what becomes of broken images.
            fitted: Height and width to which pictures are resized and cropped; None if they have them.
        """
        return StreamedImages(
            self.pictures,
            self.positions,
            self.targets,
            shape,
            *statistics,
            self.class_names,
            augmentation_for(shape, augment),
            fitted_size=fitted,
            workers=options.workers,
            broken=options.broken,
        )


def own_splits(train: LabelledPictures, test: LabelledPictures | None, options: SourceOptions) -> Splits:
    """Makes the splits of colour images that the user brings.

    Args:
        train: For training.
        test: For the test; None takes every fifth of the others, the same in every run.
        options: See `SourceOptions`.

    Raises:
        DataError: If the splits differ in their classes, or no image can be decoded.
    """
    if test is None:
        test_part, train_part = test_share(train.targets)
        train, test = train.take(train_part), train.take(test_part)
    if train.class_names != test.class_names:
        differing = sorted(set(train.class_names) ^ set(test.class_names)) or ["the order of the names"]
        raise DataError(f"training and test images must have the same classes; they differ in {differing[0]!r}")
    train, test = train.limited(options.train_images), test.limited(options.test_images)
    shape = first_shape(train.pictures, train.positions.tolist(), options.image_size, options.broken)
    return placed(train, test, shape, IMAGENET_STATISTICS, "crop_flip", options, options.image_size)


def placed(
    train: LabelledPictures,
    test: LabelledPictures,
    shape: tuple[int, ...],
    statistics: Statistics,
    augment: str,
    options: SourceOptions,
    fitted: int | None,
) -> Splits:
    """Lets both splits stream, or decodes both where they fit into the memory that they may take.

    Args:
        train: For training.
        test: For the test.
        shape: As for `LabelledPictures.stream`, and so are `statistics` to `fitted`.
        statistics: As there.
        augment: As there.
        options: As there.
        fitted: As there.
    """
    streams = [split.stream(shape, statistics, augment, options, fitted) for split in (train, test)]
    count = len(train) + len(test)
    if exceeds(options.memory, count * math.prod(shape)):
        return streams[0], streams[1]
    share = len(train) / count
    spans = spanning(options.advance, 0.0, share), spanning(options.advance, share, 1.0)
    return _decoded(streams[0], augment, spans[0]), _decoded(streams[1], augment, spans[1])


def _decoded(stream: StreamedImages, augment: str, advance: Progress) -> ImageSet:
    """Decodes all pictures, for the augmentation that suits images in memory."""
    return replace(stream.in_memory(advance), augment=augment)


def numbered_classes(targets: Tensor, remedy: str) -> tuple[str, ...]:
    """Names classes that have no names by their numbers.

    Args:
        targets: The class of every training image.
        remedy: Where the names of classes without images would stand.

    Raises:
        DataError: If there are more classes than images: one wrong label makes a network of a million outputs.
    """
    classes = int(targets.max()) + 1
    if classes > len(targets):
        raise DataError(
            f"classes are numbered from 0, and one of {len(targets):,} training images is of {classes - 1:,}; "
            f"correct the labels, or {remedy}"
        )
    return tuple(str(number) for number in range(classes))
