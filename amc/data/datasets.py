"""Data sets by name, each as a split for training and a split for testing."""

from __future__ import annotations

from collections.abc import Callable, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

from amc.data.decoded_images import decode_cached, default_cache_folder
from amc.data.decoding import fit_size
from amc.data.image_folder import LabelledFiles, list_images
from amc.data.image_set import ImageSet
from amc.data.stratified import stratified_order
from amc.errors import DataError
from amc.utils.progress import Progress, silent, spanning

Statistics = tuple[tuple[float, ...], tuple[float, ...]]

IMAGENET_STATISTICS: Statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of ImageNet, with which most public networks, those for CIFAR included, were trained."""

DIGITS_STATISTICS: Statistics = ((0.3053,), (0.3760,))
"""Mean and standard deviation of scikit-learn's digits, scaled to [0, 1]."""

_GREY_STATISTICS: Statistics = ((0.1307,), (0.3081,))  # of MNIST
_TEST_SHARE = 5  # A data set without a test split of its own gives every fifth image to it.


@dataclass(frozen=True)
class SourceOptions:
    """The options of the loaders below; the fields are those of `DataConfig`."""

    name: str
    root: Path | None
    image_size: int | None
    train_images: int | None
    test_images: int | None
    download: bool
    cache: bool
    advance: Progress = silent


Splits = tuple[ImageSet, ImageSet]


def load_digits(options: SourceOptions) -> Splits:
    """Loads the 1,797 handwritten digits of 8x8 pixels that ship inside scikit-learn; needs no download."""
    from sklearn.datasets import load_digits as sklearn_digits

    bunch = sklearn_digits()
    images = torch.from_numpy(bunch.images).float().unsqueeze(1) / 16.0
    targets = torch.from_numpy(bunch.target).long()
    mean, std = DIGITS_STATISTICS
    names = tuple(str(digit) for digit in range(10))
    return _limited(_own_test_split(ImageSet(images, targets, mean, std, names, "shift")), options)


def load_fake(options: SourceOptions) -> Splits:
    """Makes ten classes of noisy patterns, to try things out without data: 1,000 images of 3x32x32, or as asked."""
    size, count = options.image_size or 32, options.train_images or 1000
    test_count = options.test_images or count // 4
    generator = torch.Generator().manual_seed(0)
    patterns = torch.rand((10, 3, size, size), generator=generator)
    targets = torch.arange(count + test_count) % 10
    noise = torch.rand((count + test_count, 3, size, size), generator=generator)
    images = ((patterns[targets] + noise) * 127.5).to(torch.uint8)
    names = tuple(f"pattern {index}" for index in range(10))
    whole = ImageSet(images, targets, *IMAGENET_STATISTICS, names, "none")
    return whole.take(torch.arange(count)), whole.take(torch.arange(count, count + test_count))


def load_image_folder(options: SourceOptions) -> Splits:
    """Loads `root/train/CLASS/*` and `root/test/CLASS/*` (or `root/val`); `root/CLASS/*` is split by itself.

    Raises:
        DataError: If the folder is not given, does not exist, or is not laid out like this.
    """
    root = options.root
    if root is None:
        raise DataError("data set imagefolder needs a folder; set data.root")
    if not root.is_dir():
        raise DataError(f"the data folder must exist: no folder at {root}; check data.root")
    if (root / "train").is_dir():
        train, test = list_images(root / "train"), list_images(_test_folder(root))
        if train.class_names != test.class_names:
            differing = sorted(set(train.class_names) ^ set(test.class_names))
            raise DataError(f"training and test folders must have the same classes; only one has {differing[0]!r}")
    else:
        files = list_images(root)
        test_part, train_part = _fifth(files.targets)
        train, test = files.take(train_part), files.take(test_part)
    train, test = train.limited(options.train_images), test.limited(options.test_images)
    share = len(train.paths) / (len(train.paths) + len(test.paths))
    return (
        _decoded(train, options, spanning(options.advance, 0.0, share)),
        _decoded(test, options, spanning(options.advance, share, 1.0)),
    )


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
    from torchvision import datasets

    source = TORCHVISION_SOURCES[options.name]
    root = options.root if options.root is not None else default_cache_folder() / "datasets"
    splits = []
    for arguments, limit in ((source.train, options.train_images), (source.test, options.test_images)):
        try:
            dataset = getattr(datasets, source.class_name)(root, download=options.download, **arguments)
        except (RuntimeError, OSError) as error:
            raise DataError(
                f"data set {options.name} is not at {root}: {error}; set data.root, or data.download to fetch it"
            ) from error
        splits.append(_from_torchvision(dataset, source.augment, options.image_size, limit))
    return splits[0], splits[1]


LOADERS: dict[str, Callable[[SourceOptions], Splits]] = {
    "digits": load_digits,
    "imagefolder": load_image_folder,
    **dict.fromkeys(TORCHVISION_SOURCES, load_torchvision),
    "fake": load_fake,
}


def _from_torchvision(dataset: Any, augment: str, image_size: int | None, limit: int | None) -> ImageSet:
    """Decodes a torchvision data set; those that hold their images in one array are read directly."""
    targets = torch.as_tensor(numpy.asarray(_targets(dataset)), dtype=torch.int64)
    order = torch.arange(len(targets)) if limit is None else stratified_order(targets, 0)[:limit].sort().values
    size = None
    if image_size is None and hasattr(dataset, "data"):
        images = _channels_first(torch.as_tensor(numpy.asarray(dataset.data)), len(targets))[order]
    else:
        size = image_size or 224
        images = torch.stack([_pil_tensor(dataset[index][0], size) for index in order.tolist()])
    mean, std = IMAGENET_STATISTICS if images.shape[1] == 3 else _GREY_STATISTICS
    names = tuple(str(name) for name in getattr(dataset, "classes", ()))
    return ImageSet(images.contiguous(), targets[order], mean, std, names, augment, fitted_size=size)


def _targets(dataset: Any) -> Any:
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


def _pil_tensor(image: Any, size: int) -> Tensor:
    """Turns a PIL image into `(C, size, size)`, uint8; grey images keep one channel."""
    fitted = fit_size(image if image.mode == "L" else image.convert("RGB"), size)
    return _channels_first(torch.from_numpy(numpy.array(fitted))[None], 1)[0]


def _test_folder(root: Path) -> Path:
    """Finds the test split beside `root/train`."""
    for name in ("test", "val"):
        if (root / name).is_dir():
            return root / name
    raise DataError(f"{root} has a folder train, so it must have a folder test or val beside it")


def _decoded(files: LabelledFiles, options: SourceOptions, advance: Progress) -> ImageSet:
    """Decodes files, through the cache if enabled."""
    cache = default_cache_folder() if options.cache else None
    images = decode_cached(files, options.image_size, cache, advance)
    size = options.image_size
    return ImageSet(images, files.targets, *IMAGENET_STATISTICS, files.class_names, "crop_flip", fitted_size=size)


def _fifth(targets: Tensor) -> tuple[Tensor, Tensor]:
    """Splits positions into a stratified fifth and the rest, the same in every run whatever its seed."""
    order = stratified_order(targets, 0)
    count = max(1, len(targets) // _TEST_SHARE)
    return order[:count].sort().values, order[count:].sort().values


def _own_test_split(whole: ImageSet) -> Splits:
    """Splits a data set that has no test split."""
    test_part, train_part = _fifth(whole.targets)
    return whole.take(train_part), whole.take(test_part)


def _limited(splits: Splits, options: SourceOptions) -> Splits:
    """Applies the limits on the number of images."""
    train, test = splits
    if options.train_images is not None:
        train = train.subset(options.train_images)
    if options.test_images is not None:
        test = test.subset(options.test_images)
    return train, test
