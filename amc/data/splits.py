"""The four disjoint roles of data, and how they are split."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from amc.data.image_set import BatchSource, ImageSet
from amc.data.stratified import stratified_order
from amc.data.streamed_images import StreamedImages
from amc.data.tasks import CLASSIFICATION, TaskType
from amc.errors import DataError
from amc.utils.conversion import check_seed
from amc.utils.progress import Progress, silent, spanning

_TEST_SHARE = 5
"""A data set without a test split of its own gives every fifth image to it."""


@dataclass(frozen=True, eq=False)
class DataRoles:
    """The data of a run, by what it is used for. No image has two roles, but calibration is drawn from train.

    Every prefix of `calibration` and `search` must be a fair sample, as from `ImageSet.subset`: if sorted by class, a
    candidate would be recalibrated and first scored on a single class. `split_roles` and `roles_from_loaders` ensure
    that.

    Attributes:
        train: Training and fine-tuning.
        calibration: A part of the training images: statistics and reconstruction.
        search: Held out from training: the reward, and the choice of an epoch.
        test: Read once, for the report.
        task: What the network is trained to do, with its loss and its metric.
        name: What the data are called, for reports; empty if it is not known.
    """

    train: BatchSource
    calibration: ImageSet
    search: ImageSet
    test: BatchSource
    task: TaskType = CLASSIFICATION
    name: str = ""

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return max(self.calibration.num_classes, self.search.num_classes)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape `(C, H, W)` of one image."""
        return self.calibration.input_shape

    def untrained_classes(self) -> list[int]:
        """Returns the classes of the search split of which nothing is trained, as where a class has a single image.

        There are none where one would have to read all training images to know.
        """
        if not isinstance(self.train, ImageSet | StreamedImages) or self.search.targets.dim() != 1:
            return []
        scored, trained = (set(torch.unique(split.targets).tolist()) for split in (self.search, self.train))
        return sorted(scored - trained)


def split_roles(
    train: ImageSet | StreamedImages,
    test: BatchSource,
    *,
    search_images: int | None = None,
    calibration_images: int = 1000,
    seed: int = 0,
    advance: Progress = silent,
) -> DataRoles:
    """Holds the search split out from the training images and draws the calibration images from the rest.

    Both are stratified by class, depend on the seed alone, and are kept in memory.

    Args:
        train: All images that may be trained on.
        test: The test split, passed through.
        search_images: Images held out; a fifth of them and at most 5,000 if not given.
        calibration_images: Images of the training split that also serve as calibration images (all, if fewer).
        seed: Seed of the split.
        advance: Takes the share that is decoded of the two splits, where images stream from disk.

    Raises:
        ConfigurationError: If the seed is out of range.
        DataError: If too few images are there to split.
    """
    check_seed(seed)
    held_out = default_search_images(len(train)) if search_images is None else search_images
    if not 0 < held_out < len(train):
        raise DataError(
            f"the search split takes {held_out} of the {len(train)} training images; it must take one and leave some: "
            f"give more images{' or a smaller data.search_images' if held_out else ''}"
        )
    order = stratified_order(train.targets, seed)
    search, rest = order[:held_out], order[held_out:]
    kept = rest[:calibration_images]
    share = len(search) / (len(search) + len(kept))
    return DataRoles(
        train=train.take(rest.sort().values),
        search=_in_memory(train.take(search), spanning(advance, 0.0, share)),
        calibration=_in_memory(train.take(kept), spanning(advance, share, 1.0)),
        test=test,
    )


def _in_memory(split: ImageSet | StreamedImages, advance: Progress) -> ImageSet:
    """Returns a split whose images are in memory.

    Raises:
        DataError: If none can be decoded, or one is broken and that is refused.
    """
    held = split if isinstance(split, ImageSet) else split.in_memory(advance)
    if not len(held) and len(split):
        raise DataError(f"none of the {len(split)} images of a split can be decoded; check data.root")
    return held


def test_share(targets: Tensor) -> tuple[Tensor, Tensor]:
    """Splits positions into a stratified fifth, for the test, and the rest, the same in every run whatever its seed."""
    order = stratified_order(targets, 0)
    count = max(1, len(targets) // _TEST_SHARE)
    return order[:count].sort().values, order[count:].sort().values


def default_search_images(train_images: int) -> int:
    """Returns how many images are held out unless asked otherwise: a fifth, at most 5,000 (as in the AMC paper)."""
    return min(5000, train_images // 5)
