"""Data sets of torchvision as splits, in memory or streamed from disk."""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass
from typing import Any

import numpy
import torch
from torch import Tensor

from amc.data.image_set import ImageSet
from amc.data.reading.cache_entries import default_cache_folder
from amc.data.reading.pictures import DatasetPictures
from amc.data.sources.picture_splits import LabelledPictures, placed
from amc.data.sources.source_options import (
    GREY_STATISTICS,
    IMAGENET_STATISTICS,
    SourceOptions,
    Splits,
    Statistics,
)
from amc.errors import DataError
from amc.runtime.call import first_line

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
    kept = [
        LabelledPictures.every(DatasetPictures(options.name, dataset), found, _class_names(dataset)).limited(limit)
        for dataset, found, limit in zip(
            (train, test), targets, (options.train_images, options.test_images), strict=True
        )
    ]
    if options.image_size is None and hasattr(train, "data"):
        return _of_array(train, kept[0], source), _of_array(test, kept[1], source)
    size = options.image_size or _SIZE
    with kept[0].pictures.opened(int(kept[0].positions[0])) as first:
        channels = 1 if first.mode == "L" else 3
    return placed(kept[0], kept[1], (channels, size, size), _statistics(channels), source.augment, options, size)


def _opened(source: TorchvisionSource, arguments: dict[str, Any], options: SourceOptions) -> Any:
    """Constructs one split of a data set."""
    from torchvision import datasets

    root = options.root if options.root is not None else default_cache_folder() / "datasets"
    try:
        return getattr(datasets, source.class_name)(root, download=options.download, **arguments)
    except (RuntimeError, OSError) as error:
        raise DataError(
            f"data set {options.name} is not at {root}: {_without_advice(error)}; set data.root, or data.download to "
            "fetch it"
        ) from error
    except Exception as error:  # of files that are there and damaged: whatever the readers of each set raise
        raise DataError(
            f"cannot read data set {options.name} at {root}: {type(error).__name__}: {first_line(error)}; "
            "fetch it again"
        ) from error


def _without_advice(error: Exception) -> str:
    """Returns torchvision's words without its advice to set an argument, which has another name here."""
    said = first_line(error)
    return said.partition(" You can use download")[0].rstrip(". ")


def _of_array(dataset: Any, split: LabelledPictures, source: TorchvisionSource) -> ImageSet:
    """Reads a data set that holds its images in one array."""
    images = _channels_first(torch.as_tensor(numpy.asarray(dataset.data)), len(dataset.data))[split.positions]
    return ImageSet(
        images.contiguous(), split.targets, *_statistics(images.shape[1]), split.class_names, source.augment
    )


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
