"""Folders of images as splits, in memory or streamed from disk."""

from __future__ import annotations

import math
from pathlib import Path

from amc.data.image_set import ImageSet
from amc.data.memory_share import exceeds
from amc.data.reading.cache_entries import default_cache_folder
from amc.data.reading.decoded_images import decode_cached
from amc.data.reading.image_folder import LabelledFiles, list_images
from amc.data.reading.pictures import first_shape
from amc.data.sources.picture_splits import LabelledPictures
from amc.data.sources.source_options import IMAGENET_STATISTICS, SourceOptions, Splits
from amc.data.sources.split_files import data_folder
from amc.data.splits import test_share
from amc.data.streamed_images import StreamedImages
from amc.errors import DataError
from amc.utils.progress import Progress, spanning

_TEST_FOLDERS = ("test", "val")


def load_image_folder(options: SourceOptions) -> Splits:
    """Loads `root/train/CLASS/*` and `root/test/CLASS/*` (or `root/val`); `root/CLASS/*` is split by itself.

    Raises:
        DataError: If the folder is not given, does not exist, or is not laid out like this.
    """
    train, test = _files(data_folder(options))
    train, test = train.limited(options.train_images), test.limited(options.test_images)
    shape = first_shape(train.pictures(), range(len(train.paths)), options.image_size, options.broken)
    if exceeds(options.memory, (len(train.paths) + len(test.paths)) * math.prod(shape)):
        return _streamed(train, shape, options), _streamed(test, shape, options)
    share = len(train.paths) / (len(train.paths) + len(test.paths))
    splits = (
        _decoded(train, options, spanning(options.advance, 0.0, share)),
        _decoded(test, options, spanning(options.advance, share, 1.0)),
    )
    options.broken.say()
    return splits


def _files(root: Path) -> tuple[LabelledFiles, LabelledFiles]:
    """Lists the files for training and for testing.

    Raises:
        DataError: If the folder is not laid out as it should be.
    """
    if not (root / "train").is_dir():
        files = list_images(root)
        if set(files.class_names) <= set(_TEST_FOLDERS):
            raise DataError(
                f"{root} has a folder {files.class_names[0]}, so it must have a folder train beside it, or folders of "
                "classes alone"
            )
        test_part, train_part = test_share(files.targets)
        return files.take(train_part), files.take(test_part)
    train, test = list_images(root / "train"), list_images(_test_folder(root))
    if train.class_names != test.class_names:
        differing = sorted(set(train.class_names) ^ set(test.class_names))
        raise DataError(f"training and test folders must have the same classes; only one has {differing[0]!r}")
    return train, test


def _test_folder(root: Path) -> Path:
    """Finds the test split beside `root/train`."""
    for name in _TEST_FOLDERS:
        if (root / name).is_dir():
            return root / name
    raise DataError(f"{root} has a folder train, so it must have a folder test or val beside it")


def _decoded(files: LabelledFiles, options: SourceOptions, advance: Progress) -> ImageSet:
    """Decodes files, through the cache if enabled."""
    cache = default_cache_folder() if options.cache else None
    images, whole = decode_cached(files, options.image_size, cache, options.broken, advance)
    targets, size = files.targets[whole], options.image_size
    return ImageSet(images, targets, *IMAGENET_STATISTICS, files.class_names, "crop_flip", fitted_size=size)


def _streamed(files: LabelledFiles, shape: tuple[int, ...], options: SourceOptions) -> StreamedImages:
    """Leaves files on disk."""
    pictures = LabelledPictures.every(files.pictures(), files.targets, files.class_names)
    return pictures.stream(shape, IMAGENET_STATISTICS, "crop_flip", options, options.image_size)
