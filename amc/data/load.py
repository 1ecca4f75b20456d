"""From options to the four roles of data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from amc.data.augment import AUGMENTATIONS
from amc.data.memory_share import MOST
from amc.data.reading.broken_images import BrokenImages
from amc.data.sources.datasets import LOADERS, WITH_COLUMNS, WITHOUT_FOLDER
from amc.data.sources.source_options import SourceOptions, Split
from amc.data.splits import DataRoles, split_roles
from amc.data.streamed_images import default_workers
from amc.data.tasks import LOSSES, METRICS, TASKS, task_type
from amc.errors import ConfigurationError, DataError, UnknownNameError
from amc.runtime.call import first_line
from amc.utils.conversion import conform
from amc.utils.options import Chosen, create, spell
from amc.utils.progress import Progress, silent


@dataclass(frozen=True)
class DataConfig:
    """Which data, and how it is split.

    Attributes:
        name: digits, imagefolder, webdataset (tar shards), huggingface (Arrow or Parquet files), fake, or a torchvision
            data set such as cifar10 or mnist.
        root: Folder of the data. An imagefolder has root/train/CLASS/FILE and root/test/CLASS/FILE (or root/val), or
            root/CLASS/FILE, of which a fifth is the test; a webdataset root/train/*.tar and root/test/*.tar; for
            huggingface it is what save_to_disk wrote.
        image_size: Height and width that images are resized and cropped to; needed where their sizes differ.
        search_images: Training images held out to score candidates; a fifth of them, at most 5000, if not set.
        calibration_images: Training images for the statistics of criteria and the refit.
        train_images: Limit on the training images that are read, the search split included; all if not set.
        test_images: Limit on the test images; all if not set.
        mean: One number per channel, for images scaled to [0, 1]; ImageNet's for colour images if not set.
        std: One number per channel; likewise.
        augment: Random changes in training, or auto for what fits the data.
        download: Whether a torchvision data set that is not at root may be downloaded.
        cache: Whether images that are decoded into memory, lists of what shards hold and copies of Parquet files are
            kept in the user's cache folder.
        memory: Largest share of the machine's memory, 0 to 0.5, that all images of a folder or torchvision set
            may take when decoded; above it training and test images stream from disk. With 0 they always do.
        workers: Processes that decode images of a stream; 0: only the main one. Unset: one a processor, up to 16.
        broken: What becomes of images that cannot be decoded: refuse, or skip, which leaves them out and names them.
        image_column: The images: a column of huggingface, by its type if unset; the suffix of files of a webdataset.
        label_column: The classes: a column of huggingface, by its type if unset; for a webdataset the suffix of files
            that hold a number, or a field of .json files; unset: cls, else the field label.
        task: What the network is trained to do; unset: inferred from the targets.
        loss: What training minimises; unset: the task's own.
        metric: What search and report measure, higher is better; unset: the task's own.

    Raises:
        UnknownNameError: If the data set, augmentation, task, loss or metric does not exist.
        ConfigurationError: If an option has another type or is out of its range.
        DataError: If the data set cannot have images of that size.
    """

    name: str = "digits"
    root: str | None = None
    image_size: int | None = None
    search_images: int | None = None
    calibration_images: int = 1000
    train_images: int | None = None
    test_images: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    augment: Chosen = "auto"
    download: bool = False
    cache: bool = True
    memory: float = 0.25
    workers: int | None = None
    broken: Literal["refuse", "skip"] = "refuse"
    image_column: str | None = None
    label_column: str | None = None
    task: str | None = None
    loss: str | None = None
    metric: str | None = None

    def __post_init__(self) -> None:
        """Checks the options."""
        object.__setattr__(self, "augment", spell(AUGMENTATIONS, self.augment))
        conform(self, "data.")
        if self.name not in LOADERS:
            raise UnknownNameError("data set", self.name, LOADERS)
        if self.augment != "auto":
            create(AUGMENTATIONS, self.augment)
        for registry, chosen in ((TASKS, self.task), (LOSSES, self.loss), (METRICS, self.metric)):
            if chosen is not None:
                registry.get(chosen)
        for name in ("image_size", "search_images", "calibration_images", "train_images", "test_images"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigurationError(f"data.{name} must be at least 1, not {value}")
        named = next((part for part in ("image_column", "label_column") if getattr(self, part) is not None), None)
        if named is not None and self.name not in WITH_COLUMNS:
            raise ConfigurationError(
                f"data.{named} is for {' and '.join(WITH_COLUMNS)}, and data.name is {self.name}; leave it out"
            )
        if self.root is not None and self.name in WITHOUT_FOLDER:
            raise ConfigurationError(
                f"data.root is the folder of the data, and data.name is {self.name}, which needs none; name the data "
                "too (for pictures in folders of classes imagefolder), or leave data.root out"
            )
        if not 0 <= self.memory <= MOST:
            raise ConfigurationError(f"data.memory must be a share of the memory, 0 to {MOST:g}, not {self.memory:g}")
        if self.workers is not None and self.workers < 0:
            raise ConfigurationError(f"data.workers must be at least 0, not {self.workers}; leave it out, or give 0")
        if self.std is not None and min(self.std, default=0.0) <= 0:
            raise ConfigurationError(f"data.std must be positive numbers, one a channel, not {list(self.std)}")
        if self.name == "digits" and self.image_size not in (None, 8):
            raise DataError(f"the digits have 8x8 pixels; leave data.image_size out instead of {self.image_size}")


def load_data(config: DataConfig, *, seed: int = 0, advance: Progress = silent) -> DataRoles:
    """Loads a data set and splits it into its four roles.

    Args:
        config: Which data.
        seed: Decides which training images are held out for the search, and which calibrate. The test split does not
            depend on it.
        advance: Takes the share of a folder's images that is listed or decoded, 0 to 1, as it grows.

    Raises:
        DataError: If the data cannot be found, read or split.
    """
    options = SourceOptions(
        name=config.name,
        root=None if config.root is None else Path(config.root).expanduser(),
        image_size=config.image_size,
        train_images=config.train_images,
        test_images=config.test_images,
        download=config.download,
        cache=config.cache,
        memory=config.memory,
        workers=default_workers() if config.workers is None else config.workers,
        broken=BrokenImages(skips=config.broken == "skip"),
        advance=advance,
        image_column=config.image_column,
        label_column=config.label_column,
    )
    train, test = LOADERS[config.name](options)
    roles = split_roles(
        _adjusted(train, config),
        _adjusted(test, config),
        search_images=config.search_images,
        calibration_images=config.calibration_images,
        seed=seed,
        advance=advance,
    )
    roles = replace(roles, name=_called(config.name, options.root))
    return roles if (config.task, config.loss, config.metric) == (None, None, None) else _with_task(roles, config)


def _called(name: str, root: Path | None) -> str:
    """Returns what data are called: by the name of their folder where that of its format says nothing of them."""
    return root.resolve().name if root is not None and name in ("imagefolder", *WITH_COLUMNS) else name


def _with_task(roles: DataRoles, config: DataConfig) -> DataRoles:
    """Returns data with the requested task, loss and metric, tested on two of its targets.

    Raises:
        ConfigurationError: If they do not fit the targets.
    """
    targets = roles.search.targets[:2]
    kind = task_type(config.task, roles.search.targets, loss=config.loss, metric=config.metric)
    wide = kind.name in ("classification", "multilabel")
    outputs = torch.zeros(len(targets), roles.num_classes) if wide else torch.zeros(targets.shape)
    try:
        kind.loss_of(outputs, targets)
        meter = kind.meter()
        meter.add(outputs, targets)
        meter.figure()
    except Exception as error:  # any error of a loss or a metric on targets that it is not for
        raise ConfigurationError(
            f"data.task {kind.name} with data.loss {config.loss or 'unset'} and data.metric {kind.metric_name} must "
            f"fit the targets of {config.name}, and does not: {first_line(error)}; leave one of them out"
        ) from error
    return replace(roles, task=kind)


def _adjusted(images: Split, config: DataConfig) -> Split:
    """Replaces the statistics and the augmentation of a data set where the user set them."""
    mean = images.mean if config.mean is None else tuple(config.mean)
    std = images.std if config.std is None else tuple(config.std)
    augment = images.augment if config.augment == "auto" else str(config.augment)
    return replace(images, mean=mean, std=std, augment=augment)
