"""The user's own tensors, data sets and loaders as data splits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
    default_collate,
)

from amc.data.image_set import Batch, BatchSource, ImageSet
from amc.data.splits import DataRoles, default_search_images, split_roles
from amc.errors import DataError

DataLike = Any
"""A `BatchSource`, a pair of tensors (inputs, classes), a `Dataset`, a `DataLoader`, or an iterable of batches."""

_READ_SIZE = 250


@dataclass(frozen=True)
class DatasetSource:
    """A map-style data set of `(input, class)` pairs, read anew in every epoch, so that its own augmentation works.

    Attributes:
        dataset: The data set.
        positions: `(N,)`, int64: which of its items belong to the split.
        collate: Makes a batch of a list of items.
        workers: Processes that load items; 0 loads in the main process.
    """

    dataset: Dataset[Any]
    positions: Tensor
    collate: Callable[[list[Any]], Any] = default_collate
    workers: int = 0

    def __len__(self) -> int:
        """Returns the number of items."""
        return len(self.positions)

    def take(self, indices: Tensor) -> DatasetSource:
        """Returns the items at some positions of this split."""
        return DatasetSource(self.dataset, self.positions[indices], self.collate, self.workers)

    def batches(
        self,
        size: int,
        *,
        device: torch.device | None = None,
        generator: torch.Generator | None = None,
        channels_last: bool = False,
    ) -> Iterator[Batch]:
        """Iterates once over the items; see `BatchSource.batches`. Augmentation is left to the data set."""
        order, seeds = self.positions, torch.Generator().manual_seed(0)
        if generator is not None:
            order = order[torch.randperm(len(order), generator=generator)]
            seeds.manual_seed(int(torch.randint(2**31, (), generator=generator)))
            size = min(size, len(self))
        loader: Iterable[Any] = DataLoader(
            self.dataset,
            batch_size=size,
            sampler=order.tolist(),
            num_workers=self.workers,
            collate_fn=self.collate,
            drop_last=generator is not None,
            generator=seeds,
        )
        for item in loader:
            inputs, targets = _pair(item)
            if channels_last and inputs.dim() == 4:
                inputs = inputs.contiguous(memory_format=torch.channels_last)
            yield inputs.to(device), targets.to(device)


def roles_from_loaders(
    train: DataLike,
    test: DataLike,
    *,
    search: DataLike | None = None,
    calibration: DataLike | None = None,
    search_images: int | None = None,
    calibration_images: int = 1000,
    seed: int = 0,
) -> DataRoles:
    """Makes the four roles of the user's own data.

    Data sets, and loaders of them in order or shuffled, are read anew in every epoch. Anything else is read once and
    kept in memory, and so are the search and calibration splits. Inputs are taken as they come: normalise them first.

    Args:
        train: The training split.
        test: The test split; read once, for the report.
        search: A split to score candidates on that is in neither; held out from `train` if not given, with the
            transformations of `train`, its augmentation included.
        calibration: Training data without augmentation; drawn from `train` if not given.
        search_images: How many images to hold out or to take from `search`; by default a fifth, at most 5,000, and all
            of a `search` that is given.
        calibration_images: How many images calibrate.
        seed: Seed of what is drawn.

    Raises:
        DataError: If something is not data, or too little to split.
    """
    train_source, test_source = as_source(train), as_source(test)
    if search is not None:
        held_out = _in_memory(as_source(search), search_images, seed)
    elif isinstance(train_source, ImageSet):
        roles = split_roles(
            train_source,
            test_source,
            search_images=search_images,
            calibration_images=calibration_images,
            seed=seed,
        )
        train_source, held_out = roles.train, roles.search
        if calibration is None:
            return roles
    else:
        train_source, held_out = _hold_out(train_source, search_images, seed)
    sample = train_source if calibration is None else as_source(calibration)
    return DataRoles(train_source, _in_memory(sample, calibration_images, seed), held_out, test_source)


def roles_of_pair(data: Any, *, seed: int) -> DataRoles:
    """Makes the four roles of a pair (training, test).

    Raises:
        DataError: If it is no pair, or its parts are no data.
    """
    if not isinstance(data, tuple | list) or len(data) != 2 or any(isinstance(part, Tensor) for part in data):
        raise DataError(
            "data must be a pair (training, test), each two tensors (inputs, classes), a Dataset or a DataLoader, "
            f"not {'a pair of tensors' if isinstance(data, tuple | list) and len(data) == 2 else type(data).__name__}"
        )
    return roles_from_loaders(*data, seed=seed)


def as_source(data: DataLike) -> BatchSource:
    """Makes a split of the user's data; see `roles_from_loaders`.

    Raises:
        DataError: If it is not data, or holds something else than pairs of inputs and classes.
    """
    if isinstance(data, ImageSet | DatasetSource):
        return data
    if isinstance(data, tuple | list) and len(data) == 2 and all(isinstance(part, Tensor) for part in data):
        return ImageSet(data[0], data[1].long(), as_given=True)
    if type(data) is TensorDataset:  # one derived from it may change its items
        return as_source(data.tensors)
    if isinstance(data, DataLoader):
        if not _reads_whole_data_set(data):
            return _collect(data, None)
        if type(data.dataset) is TensorDataset and data.collate_fn is default_collate:
            return as_source(data.dataset)
        assert isinstance(data.dataset, Sized)
        positions = torch.arange(len(data.dataset))
        return DatasetSource(data.dataset, positions, data.collate_fn, data.num_workers)
    if isinstance(data, Dataset) and isinstance(data, Sized):
        return DatasetSource(data, torch.arange(len(data)))
    if callable(getattr(data, "batches", None)):
        source: BatchSource = data
        return source
    if isinstance(data, Iterable):
        return _collect(data, None)
    raise DataError(
        f"data must be tensors, a Dataset, a DataLoader or an iterable of batches, not {type(data).__name__}"
    )


def _reads_whole_data_set(loader: DataLoader[Any]) -> bool:
    """Tells whether a loader shows every item of its data set once, so that the data set can stand for it."""
    dataset: Any = loader.dataset
    if isinstance(dataset, IterableDataset) or type(loader.batch_sampler) is not BatchSampler:
        return False
    sampler: Any = loader.batch_sampler.sampler  # the loader's own is not asked where the user gave a batch sampler
    known = type(sampler) is SequentialSampler or (type(sampler) is RandomSampler and not sampler.replacement)
    return known and len(sampler) == len(dataset)


def _hold_out(source: BatchSource, count: int | None, seed: int) -> tuple[BatchSource, ImageSet]:
    """Splits a data set at random, without reading all its items for their classes."""
    if not isinstance(source, DatasetSource):
        raise DataError("this kind of training data cannot be split; give a search split of its own")
    held_out = default_search_images(len(source)) if count is None else count
    if not 0 < held_out < len(source):
        raise DataError(f"the search split takes {held_out} of the {len(source)} training items; it must leave some")
    order = torch.randperm(len(source), generator=torch.Generator().manual_seed(seed))
    return source.take(order[held_out:].sort().values), _in_memory(source.take(order[:held_out]), None, seed)


def _in_memory(source: BatchSource, count: int | None, seed: int) -> ImageSet:
    """Reads `count` items drawn by the seed into memory; all if `None` or if there are fewer.

    Whatever order they come in, they are kept in one of which every beginning is a fair sample: candidates are
    recalibrated on the first calibration images, and scored first on the first of the search split.
    """
    if not isinstance(source, ImageSet):
        source = _read(source, count, seed)
    return source.subset(len(source) if count is None else count, seed=seed)


def _read(source: BatchSource, count: int | None, seed: int) -> ImageSet:
    """Reads `count` items into memory: drawn by the seed from a data set, else the first ones."""
    if count is not None and count < len(source) and isinstance(source, DatasetSource):
        order = torch.randperm(len(source), generator=torch.Generator().manual_seed(seed))
        return _collect(source.take(order[:count]).batches(_READ_SIZE), None)
    return _collect(source.batches(_READ_SIZE), count)


def _collect(batches: Iterable[Any], count: int | None) -> ImageSet:
    """Joins batches, the first `count` items of them."""
    inputs: list[Tensor] = []
    targets: list[Tensor] = []
    for item in batches:
        batch, classes = _pair(item)
        inputs.append(batch)
        targets.append(classes)
        if count is not None and sum(len(part) for part in targets) >= count:
            break
    if not inputs:
        raise DataError("the data must hold at least one batch; it is empty (an iterator can be read only once)")
    return ImageSet(torch.cat(inputs)[:count], torch.cat(targets)[:count], as_given=True)


def _pair(item: Any) -> Batch:
    """Takes a batch apart.

    Raises:
        DataError: If it is no pair of tensors.
    """
    if isinstance(item, tuple | list) and len(item) == 2 and all(isinstance(part, Tensor) for part in item):
        return item[0], item[1].long()
    raise DataError(
        f"a batch must be a pair of tensors (inputs, classes), not {type(item).__name__}; for other data inject "
        "evaluate and finetune of your own"
    )
