"""A map-style data set, or a loader of one, as a data split that is read again in every epoch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    WeightedRandomSampler,
    default_collate,
)

from amc.data.batches import MakeBatch, is_single, pair_of
from amc.data.image_set import Batch, part_of
from amc.errors import DataError

_KEPT = ("num_workers", "pin_memory", "worker_init_fn", "multiprocessing_context", "timeout", "prefetch_factor")
"""A loader's options for loading items. Workers do not persist, so that a resumed run draws the same items."""


@dataclass(frozen=True)
class LoaderSettings:
    """How the items of a data set are loaded and combined.

    Attributes:
        collate: Makes a batch of a list of items.
        make: Makes `(inputs, targets)` of a batch; None where it is such a pair.
        batch_size: Items in a batch of the user's loader; None if there is no loader.
        options: Further arguments of `torch.utils.data.DataLoader`.
    """

    collate: Callable[[list[Any]], Any] = default_collate
    make: MakeBatch | None = None
    batch_size: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, loader: DataLoader[Any], make: MakeBatch | None) -> LoaderSettings:
        """Returns those of a loader; the size of its batches is the largest where a batch sampler of its own varies."""
        size = loader.batch_size or getattr(loader.batch_sampler, "batch_size", None)
        kept = {name: getattr(loader, name) for name in _KEPT}
        return cls(loader.collate_fn, make, size if isinstance(size, int) else None, kept)


@dataclass(frozen=True)
class DatasetSource:
    """A map-style data set of `(input, target)` pairs, read again in every epoch, so that its own augmentation works.

    Attributes:
        dataset: The data set.
        positions: `(M,)`, int64: which of its items belong to the split; some more than once where a sampler says so.
        settings: How items are loaded.
        weights: By item of the data set, `(N,)`: how often training draws it, relative to the others, with replacement;
            None shows each position once an epoch.
        draws: Items that training draws an epoch, with weights.
        part: Which part of every training batch is read, from 0, and of how many.
    """

    dataset: Dataset[Any]
    positions: Tensor
    settings: LoaderSettings = field(default_factory=LoaderSettings)
    weights: Tensor | None = None
    draws: int = 0
    part: tuple[int, int] = (0, 1)

    def __len__(self) -> int:
        """Returns the number of items of an epoch."""
        return len(self.positions) if self.weights is None else self.draws

    @property
    def batch_size(self) -> int | None:
        """Items in a batch of the user's own loader."""
        return self.settings.batch_size

    def items(self) -> Tensor:
        """Returns the items of the data set that belong to the split, each once, in rising order."""
        items: Tensor = torch.unique(self.positions)
        return items

    def only(self, items: Tensor) -> DatasetSource:
        """Returns the split without all items but some of the data set; those stay as frequent as they are."""
        positions = self.positions[torch.isin(self.positions, items)]
        draws = round(self.draws * len(positions) / max(1, len(self.positions)))
        return replace(self, positions=positions, draws=max(1, draws))

    def take(self, indices: Tensor) -> DatasetSource:
        """Returns the items at some positions of this split, each once an epoch."""
        return replace(self, positions=self.positions[indices], weights=None, draws=0)

    def shard(self, rank: int, size: int) -> DatasetSource:
        """Returns the same items with a part of every training batch, which alone is read.

        Its order is that of the whole; what the data set changes at random differs from part to part.
        """
        return replace(self, part=(rank, size))

    def batches(
        self,
        size: int,
        *,
        device: torch.device | None = None,
        generator: torch.Generator | None = None,
        channels_last: bool = False,
    ) -> Iterator[Batch]:
        """Iterates once over the items; see `BatchSource.batches`. Augmentation is left to the data set.

        Outside training batches are no larger than those of the user's loader.
        """
        order, seeds = self.positions, torch.Generator().manual_seed(0)
        if generator is not None:
            order = self._training_order(generator)
            seeds.manual_seed(int(torch.randint(2**31, (), generator=generator)))
            size = min(size, len(order))
            if self.part != (0, 1):
                order, size = self._own(order, size)
                seeds.manual_seed(seeds.initial_seed() + self.part[0])
        elif self.batch_size is not None:
            size = min(size, self.batch_size)
        loader: Iterable[Any] = DataLoader(
            self.dataset,
            batch_size=size,
            sampler=order.tolist(),
            collate_fn=self.settings.collate,
            drop_last=generator is not None,
            generator=seeds,
            **self.settings.options,
        )
        for item in living(loader):
            inputs, targets = pair_of(item, self.settings.make)
            if channels_last and inputs.dim() == 4:
                inputs = inputs.contiguous(memory_format=torch.channels_last)
            yield inputs.to(device, non_blocking=True), targets.to(device, non_blocking=True)

    def _own(self, order: Tensor, size: int) -> tuple[Tensor, int]:
        """Returns what of the whole order this part reads, and its batch size."""
        batches = order[: len(order) // size * size].view(-1, size)
        own = batches[:, part_of(size, *self.part)]
        return own.reshape(-1), own.shape[1]

    def _training_order(self, generator: torch.Generator) -> Tensor:
        """Returns what an epoch of training shows, in order."""
        if self.weights is None:
            return self.positions[torch.randperm(len(self.positions), generator=generator)]
        weights = self.weights[self.positions].double()
        return self.positions[torch.multinomial(weights, self.draws, replacement=True, generator=generator)]


def living(loader: Iterable[Any]) -> Iterator[Any]:
    """Iterates over a loader, and reports the death of its worker processes, and items that make no batch.

    A loader that pins memory does so where there is an accelerator, and is silent about it elsewhere.

    Raises:
        DataError: If one has died, or items of several shapes would have to be joined.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "'pin_memory' argument is set as true but no accelerator is found")
            items = iter(loader)
        yield from items
    except (RuntimeError, ConnectionError, EOFError) as error:  # as the death may surface in different places
        if "to be equal size" in str(error):
            raise DataError(
                f"all items must have one shape to be joined in a batch: {str(error).strip().splitlines()[-1]}; bring "
                "them to one shape in the data set, or in the loader's collate_fn"
            ) from error
        said = any(words in str(error) for words in ("exited unexpectedly", "killed by signal"))
        is_death = said or not isinstance(error, RuntimeError)
        if not is_death or not getattr(loader, "num_workers", 0) or "Caught" in str(error):
            raise
        raise DataError(
            f"a process that loads data has died ({error}), often for want of memory; use fewer workers, or 0"
        ) from error


def source_of_loader(loader: DataLoader[Any], make: MakeBatch | None) -> DatasetSource | None:
    """Returns the data set behind a loader as a split with the loader's settings and its way of drawing.

    Returns:
        None if the loader does not say which items it shows: of a stream, or where the items are batches themselves.
    """
    dataset: Any = loader.dataset
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        return None
    settings, every = LoaderSettings.of(loader, make), torch.arange(len(dataset))
    sampler: Any = getattr(loader.batch_sampler, "sampler", None)
    if loader.batch_sampler is None:  # it hands out what the data set returns, one by one
        first = next(iter(loader.sampler), None)
        if not isinstance(first, int) or not is_single(dataset[first] if make is None else make(dataset[first])):
            return None
        settings, sampler = replace(settings, collate=default_collate), loader.sampler
    if isinstance(sampler, WeightedRandomSampler) and sampler.replacement:
        weights = torch.as_tensor(sampler.weights, dtype=torch.float64)
        return DatasetSource(dataset, every[: len(weights)][weights > 0], settings, weights, len(sampler))
    if isinstance(sampler, RandomSampler) and sampler.replacement:
        return DatasetSource(dataset, every, settings, torch.ones(len(dataset)), len(sampler))
    # Any other sampler is asked once what it shows; an endless one shows as many as the loader says it has.
    drawn: Iterable[Any] = islice(loader.sampler if loader.batch_sampler is None else loader.batch_sampler, len(loader))
    shown = list(drawn) if loader.batch_sampler is None else [index for batch in drawn for index in batch]
    if not all(isinstance(index, int) for index in shown):
        return None
    return DatasetSource(dataset, torch.tensor(shown, dtype=torch.int64).sort().values, settings)
