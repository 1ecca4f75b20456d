"""The user's own tensors, data sets and loaders as data splits."""

from __future__ import annotations

from collections.abc import Iterable, Sized
from dataclasses import replace
from typing import Any

import numpy
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, default_collate

from amc.data.batches import READ_SIZE, MakeBatch, collect, plain_targets, refuse_several_inputs, whole_classes
from amc.data.dataset_source import DatasetSource, LoaderSettings, living, source_of_loader
from amc.data.image_set import BatchSource, ImageSet
from amc.data.repeated_items import first_of_same
from amc.data.splits import DataRoles, default_search_images, split_roles
from amc.data.streamed_images import StreamedImages
from amc.data.tasks import task_type
from amc.data.tasks.losses import Loss
from amc.data.tasks.meters import OwnMetric
from amc.errors import ConfigurationError, DataError

DataLike = Any
"""A `BatchSource`, a pair of tensors or arrays (inputs, targets), a `Dataset`, a `DataLoader`, or an iterable of
batches or of single items."""


def roles_from_loaders(
    train: DataLike,
    test: DataLike,
    *,
    search: DataLike | None = None,
    calibration: DataLike | None = None,
    search_images: int | None = None,
    calibration_images: int = 1000,
    task: str | None = None,
    loss: str | Loss | None = None,
    metric: str | OwnMetric | None = None,
    batch: MakeBatch | None = None,
    seed: int = 0,
) -> DataRoles:
    """Makes the four roles of the user's own data.

    Data sets, and loaders of them, are read again in every epoch, with the loader's own workers, sampler and collate
    function; items that it draws more than once are held out altogether. Streams and other iterables are read once and
    kept in memory, and so are the search and calibration splits. Inputs are not changed: normalise them first.

    Args:
        train: The training split.
        test: The test split; read once, for the report.
        search: A split to score candidates on that is in neither; held out from `train` if not given, with the
            transformations of `train`, its augmentation included.
        calibration: Training data without augmentation; drawn from `train` if not given.
        search_images: How many images to hold out or to take from `search`; by default a fifth, at most 5,000, and all
            of a `search` that is given.
        calibration_images: How many images calibrate.
        task: `"classification"`, `"segmentation"`, `"multilabel"` or `"regression"`; inferred from the targets if None.
        loss: What training minimises: a name in `amc.data.tasks.LOSSES`, or a function of the network's main output and
            the targets; the task's own if None.
        metric: What search and report measure, higher is better: a name in `amc.data.tasks.METRICS`, a function of all
            outputs and targets, or an object of torchmetrics; the task's own if None.
        batch: Makes `(inputs, targets)` of whatever the loaders yield, such as a dictionary.
        seed: Seed of what is drawn.

    Raises:
        UnknownNameError: If task, loss or metric is a name that does not exist.
        ConfigurationError: If `batch` is no function.
        DataError: If something is not data, or too little to split.
    """
    if batch is not None and not callable(batch):
        raise ConfigurationError(f"batch must be a function of an item that returns (inputs, targets), not {batch!r}")
    train_source, test_source = as_source(train, batch), as_source(test, batch)
    if search is not None:
        held_out = _in_memory(as_source(search, batch), search_images, seed)
    elif isinstance(train_source, ImageSet | StreamedImages):
        roles = split_roles(
            train_source, test_source, search_images=search_images, calibration_images=calibration_images, seed=seed
        )
        train_source, held_out = roles.train, roles.search
        if calibration is None:
            kind = task_type(task, roles.search.targets, loss=loss, metric=metric)
            return replace(roles, task=kind)
    else:
        train_source, held_out = _hold_out(train_source, search_images, seed)
    sample = train_source if calibration is None else as_source(calibration, batch)
    kind = task_type(task, held_out.targets, loss=loss, metric=metric)
    return DataRoles(train_source, _in_memory(sample, calibration_images, seed), held_out, test_source, kind)


def roles_of_pair(data: Any, *, seed: int) -> DataRoles:
    """Makes the four roles of a pair (training, test), or of three (training, validation, test).

    Raises:
        DataError: If it is neither, or its parts are no data.
    """
    arrays = Tensor | numpy.ndarray
    if isinstance(data, tuple | list) and len(data) in (2, 3) and not any(isinstance(part, arrays) for part in data):
        train, *search, test = data
        return roles_from_loaders(train, test, search=search[0] if search else None, seed=seed)
    few = isinstance(data, tuple | list) and len(data) in (2, 3)
    raise DataError(
        "data must be a pair (training, test) or three (training, validation, test), each two tensors (inputs, "
        f"targets), a Dataset or a DataLoader, not {'tensors' if few else type(data).__name__}"
    )


def as_source(data: DataLike, batch: MakeBatch | None = None) -> BatchSource:
    """Makes a split of the user's data; see `roles_from_loaders`.

    Raises:
        DataError: If it is not data, or holds anything but pairs of inputs and targets.
    """
    arrays = Tensor | numpy.ndarray
    if isinstance(data, ImageSet | DatasetSource):
        return data
    if isinstance(data, tuple | list) and len(data) == 2 and all(isinstance(part, arrays) for part in data):
        inputs, targets = (torch.as_tensor(part) for part in data)
        return ImageSet(inputs, whole_classes(plain_targets(targets)), as_given=True)
    if type(data) is TensorDataset and len(data.tensors) == 2 and batch is None:  # one derived from it may change items
        return as_source(data.tensors)
    if isinstance(data, DataLoader):
        return _of_loader(data, batch)
    if isinstance(data, IterableDataset):
        return collect(data, None, batch)
    if callable(getattr(data, "batches", None)):
        source: BatchSource = data
        return source
    if _is_map_style(data):
        return DatasetSource(data, torch.arange(len(data)), LoaderSettings(make=batch))
    if isinstance(data, Iterable):
        refuse_several_inputs(data)
        return collect(data, None, batch)
    raise DataError(
        f"data must be tensors, a Dataset, a DataLoader or an iterable of batches, not {type(data).__name__}"
    )


def _of_loader(loader: DataLoader[Any], batch: MakeBatch | None) -> BatchSource:
    """Returns the data behind a loader: read in every epoch if the loader says which items it shows, else once."""
    plain = type(loader.dataset) is TensorDataset and loader.collate_fn is default_collate and batch is None
    source = source_of_loader(loader, batch)
    if source is None:
        return collect(living(loader), None, batch)
    if plain and source.weights is None and len(source) == len(source.items()) == len(source.dataset):  # type: ignore[arg-type]
        kept = as_source(loader.dataset)
        return replace(kept, batch_size=source.batch_size) if isinstance(kept, ImageSet) else kept
    return source


def _is_map_style(data: Any) -> bool:
    """Returns whether items can be accessed by index: in PyTorch's data sets, and in others that are not sequences."""
    if isinstance(data, Dataset):
        return isinstance(data, Sized)
    return isinstance(data, Sized) and hasattr(data, "__getitem__") and not isinstance(data, list | tuple | dict | str)


def _hold_out(source: BatchSource, count: int | None, seed: int) -> tuple[BatchSource, ImageSet]:
    """Splits a data set at random, without reading all its items for their classes.

    Items are held out, not draws: one that a sampler, a `Subset` or a `ConcatDataset` shows several times is in only
    one of the splits.
    """
    if not isinstance(source, DatasetSource):
        raise DataError("this kind of training data cannot be split; give a search split of its own")
    same = first_of_same(source.dataset)
    items = torch.unique(same[source.items()])
    held_out = default_search_images(len(items)) if count is None else count
    if not 0 < held_out < len(items):
        raise DataError(
            f"the search split takes {held_out} of the {len(items)} training items; it must take one and leave some: "
            f"give more items{' or a smaller search_images' if held_out else ''}"
        )
    order = items[torch.randperm(len(items), generator=torch.Generator().manual_seed(seed))]
    chosen = replace(source, positions=order[:held_out], weights=None, draws=0)
    left = torch.isin(same, order[held_out:]).nonzero().flatten()
    return source.only(left), _in_memory(chosen, None, seed)


def _in_memory(source: BatchSource, count: int | None, seed: int) -> ImageSet:
    """Reads `count` items drawn by the seed into memory; all if `None` or if there are fewer.

    They are stored in an order in which every prefix is a fair sample: candidates are
    recalibrated on the first calibration images, and scored first on the first of the search split.
    """
    if not isinstance(source, ImageSet):
        source = _read(source, count, seed)
    return source.subset(len(source) if count is None else count, seed=seed)


def _read(source: BatchSource, count: int | None, seed: int) -> ImageSet:
    """Reads `count` items into memory: drawn by the seed from a data set, else the first ones."""
    if count is not None and count < len(source) and isinstance(source, DatasetSource):
        source = replace(source, positions=source.items(), weights=None, draws=0)
        order = torch.randperm(len(source), generator=torch.Generator().manual_seed(seed))
        return collect(source.take(order[:count]).batches(READ_SIZE))
    return collect(source.batches(READ_SIZE), count)
