"""Data sets of torchvision as splits, in memory or streamed from disk."""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass, replace
from typing import Any

import numpy
import torch
from torch import Tensor

from amc.data.decoded_images import default_cache_folder
from amc.data.image_set import ImageSet
from amc.data.memory_share import exceeds
from amc.data.pictures import DatasetPictures
from amc.data.source_options import (
    GREY_STATISTICS,
    IMAGENET_STATISTICS,
    SourceOptions,
    Split,
    Splits,
    Statistics,
    augmentation_for,
)
from amc.data.stratified import stratified_order
from amc.data.streamed_images import StreamedImages
from amc.errors import DataError
from amc.utils.progress import Progress, spanning

_SIZE = 224
"""Height and width of images of various sizes where the user gives none."""


@dataclass(frozen=True)
class TorchvisionSource:
    """How a torchvision data set is constructed.

    Attributes:
        class_name: Its class in `torchvision.datasets`.
        train: Arguments that choose the training split.
        test: Arguments that choose the test split.
        augment: The augmentation that fits its images.
    """

    class_name: str
    train: dict[str, Any]
    test: dict[str, Any]
    augment: str = "crop_flip"


def _by_flag(class_name: str, augment: str = "crop_flip") -> TorchvisionSource:
    """A data set whose split is chosen by `train=True`."""
    return TorchvisionSource(class_name, {"train": True}, {"train": False}, augment)


def _by_split(class_name: str, augment: str = "crop_flip", train: str = "train") -> TorchvisionSource:
    """A data set whose split is chosen by `split="train"`."""
    return TorchvisionSource(class_name, {"split": train}, {"split": "test"}, augment)


TORCHVISION_SOURCES: dict[str, TorchvisionSource] = {
    "cifar10": _by_flag("CIFAR10"),
    "cifar100": _by_flag("CIFAR100"),
    "mnist": _by_flag("MNIST", "shift"),
    "fashionmnist": _by_flag("FashionMNIST"),
    "kmnist": _by_flag("KMNIST", "shift"),
    "svhn": _by_split("SVHN", "shift"),
    "stl10": _by_split("STL10"),
    "gtsrb": _by_split("GTSRB", "shift"),
    "flowers102": _by_split("Flowers102"),
    "food101": _by_split("Food101"),
    "oxfordiiitpet": _by_split("OxfordIIITPet", train="trainval"),
}


def load_torchvision(options: SourceOptions) -> Splits:
    """Loads a torchvision data set from `root`, downloading it only if asked.

    Raises:
        DataError: If the data set is not at `root` and must not be downloaded.
    """
    source = TORCHVISION_SOURCES[options.name]
    train, test = (_opened(source, arguments, options) for arguments in (source.train, source.test))
    targets = _targets(train), _targets(test)
    kept = _limited(targets[0], options.train_images), _limited(targets[1], options.test_images)
    if options.image_size is None and hasattr(train, "data"):
        return _of_array(train, targets[0], kept[0], source), _of_array(test, targets[1], kept[1], source)
    size = options.image_size or _SIZE
    channels = 1 if train[int(kept[0][0])][0].mode == "L" else 3
    count = len(kept[0]) + len(kept[1])
    streams = exceeds(options.memory, count * channels * size * size)
    share = len(kept[0]) / count
    splits: list[Split] = []
    for number, (dataset, span) in enumerate(((train, (0.0, share)), (test, (share, 1.0)))):
        stream = _stream(dataset, targets[number], kept[number], (channels, size, size), source, options)
        splits.append(stream if streams else _decoded(stream, source, spanning(options.advance, *span)))
    return splits[0], splits[1]


def _opened(source: TorchvisionSource, arguments: dict[str, Any], options: SourceOptions) -> Any:
    """Constructs one split of a data set."""
    from torchvision import datasets

    root = options.root if options.root is not None else default_cache_folder() / "datasets"
    try:
        return getattr(datasets, source.class_name)(root, download=options.download, **arguments)
    except (RuntimeError, OSError) as error:
        raise DataError(
            f"data set {options.name} is not at {root}: {error}; set data.root, or data.download to fetch it"
        ) from error


def _limited(targets: Tensor, limit: int | None) -> Tensor:
    """Returns the positions of as many images as asked, stratified by class."""
    if limit is None:
        return torch.arange(len(targets))
    return stratified_order(targets, 0)[:limit].sort().values


def _of_array(dataset: Any, targets: Tensor, positions: Tensor, source: TorchvisionSource) -> ImageSet:
    """Reads a data set that holds its images in one array."""
    images = _channels_first(torch.as_tensor(numpy.asarray(dataset.data)), len(targets))[positions].contiguous()
    statistics = _statistics(images.shape[1])
    return ImageSet(images, targets[positions], *statistics, _class_names(dataset), source.augment)


def _stream(
    dataset: Any,
    targets: Tensor,
    positions: Tensor,
    shape: tuple[int, ...],
    source: TorchvisionSource,
    options: SourceOptions,
) -> StreamedImages:
    """Leaves the pictures of a data set where they are."""
    return StreamedImages(
        DatasetPictures(options.name, dataset),
        positions,
        targets[positions],
        shape,
        *_statistics(shape[0]),
        _class_names(dataset),
        augmentation_for(shape, source.augment),
        fitted_size=shape[1],
        workers=options.workers,
        broken=options.broken,
    )


def _decoded(stream: StreamedImages, source: TorchvisionSource, advance: Progress) -> ImageSet:
    """Decodes all pictures, for the augmentation that suits images in memory."""
    return replace(stream.in_memory(advance), augment=source.augment)


def _statistics(channels: int) -> Statistics:
    return IMAGENET_STATISTICS if channels == 3 else GREY_STATISTICS


def _class_names(dataset: Any) -> tuple[str, ...]:
    return tuple(str(name) for name in getattr(dataset, "classes", ()))


def _targets(dataset: Any) -> Tensor:
    """Returns the classes of a torchvision data set, `(N,)`, int64."""
    return torch.as_tensor(numpy.asarray(_found_targets(dataset)), dtype=torch.int64)


def _found_targets(dataset: Any) -> Any:
    """Finds the classes of a torchvision data set, which has no one name for them."""
    for name in ("targets", "labels", "_labels"):
        if hasattr(dataset, name):
            return getattr(dataset, name)
    assert isinstance(dataset, Sized)
    return [dataset[index][1] for index in range(len(dataset))]  # type: ignore[index]


def _channels_first(data: Tensor, count: int) -> Tensor:
    """Brings `(N, H, W)`, `(N, H, W, 3)` or `(N, 3, H, W)` to `(N, C, H, W)`."""
    assert len(data) == count
    if data.dim() == 3:
        return data.unsqueeze(1)
    return data if data.shape[1] == 3 else data.permute(0, 3, 1, 2)
