"""Which items of a data set are the same: subsets and chains of data sets may show one several times."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Subset


def first_of_same(dataset: Any) -> Tensor:
    """Returns for every item of a data set the first that is the same one, `(N,)`, int64.

    Items are the same where a `Subset` names an index twice, or a `ConcatDataset` has a data set twice, as those do
    that show rare classes more often. Copies within other data sets are not noticed.

    Args:
        dataset: A map-style data set of N items.
    """
    if not isinstance(dataset, Subset | ConcatDataset):
        return torch.arange(len(dataset))
    first: dict[Hashable, int] = {}
    return torch.tensor([first.setdefault(item, place) for place, item in enumerate(_items(dataset))])


def _items(dataset: Any) -> Sequence[Hashable]:
    """Returns what identifies each item: the data set that makes it, and its place there."""
    if isinstance(dataset, Subset):
        inner = _items(dataset.dataset)
        return [inner[int(index)] for index in dataset.indices]
    if isinstance(dataset, ConcatDataset):
        return [item for part in dataset.datasets for item in _items(part)]
    return [(id(dataset), place) for place in range(len(dataset))]
