"""Data sets by name, each as a split for training and a split for testing."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from amc.data.image_set import ImageSet
from amc.data.sources.folder_source import load_image_folder
from amc.data.sources.huggingface_source import load_huggingface
from amc.data.sources.source_options import IMAGENET_STATISTICS, SourceOptions, Splits, Statistics
from amc.data.sources.torchvision_source import TORCHVISION_SOURCES, load_torchvision
from amc.data.sources.webdataset_source import load_webdataset
from amc.data.splits import test_share

DIGITS_STATISTICS: Statistics = ((0.3053,), (0.3760,))
"""Mean and standard deviation of scikit-learn's digits, scaled to [0, 1]."""


def load_digits(options: SourceOptions) -> Splits:
    """Loads the 1,797 handwritten digits of 8x8 pixels that ship inside scikit-learn; needs no download."""
    images, targets = _digits()
    mean, std = DIGITS_STATISTICS
    names = tuple(str(digit) for digit in range(10))
    return _limited(_own_test_split(ImageSet(images, targets, mean, std, names, "shift")), options)


@cache
def _digits() -> tuple[Tensor, Tensor]:
    """Reads the digits from their file of text, once in a process: `(1797, 1, 8, 8)` in [0, 1], and their classes."""
    from sklearn.datasets import load_digits as sklearn_digits

    bunch = sklearn_digits()
    return torch.from_numpy(bunch.images).float().unsqueeze(1) / 16.0, torch.from_numpy(bunch.target).long()


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


WITH_COLUMNS = ("webdataset", "huggingface")
"""Data sets whose samples have parts with names of their own."""
WITHOUT_FOLDER = ("digits", "fake")
"""Data sets that are made or come with a package, and read no folder of the user's."""

LOADERS: dict[str, Callable[[SourceOptions], Splits]] = {
    "digits": load_digits,
    "imagefolder": load_image_folder,
    "webdataset": load_webdataset,
    "huggingface": load_huggingface,
    **dict.fromkeys(TORCHVISION_SOURCES, load_torchvision),
    "fake": load_fake,
}


def _own_test_split(whole: ImageSet) -> tuple[ImageSet, ImageSet]:
    """Splits a data set that has no test split."""
    test_part, train_part = test_share(whole.targets)
    return whole.take(train_part), whole.take(test_part)


def _limited(splits: tuple[ImageSet, ImageSet], options: SourceOptions) -> Splits:
    """Applies the limits on the number of images."""
    train, test = splits
    if options.train_images is not None:
        train = train.subset(options.train_images)
    if options.test_images is not None:
        test = test.subset(options.test_images)
    return train, test
