"""Unpacking the batches or single items that loaders, streams and iterables yield."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy
import torch
from torch import Tensor
from torch.utils.data import default_collate

from amc.data.image_set import Batch, ImageSet
from amc.errors import DataError

MakeBatch = Callable[[Any], Any]
"""Makes `(inputs, targets)` of what the data yields, such as a dictionary or `(inputs, targets, meta)`."""

READ_SIZE = 250
"""Items of a stream that are put into one batch."""


def pair_of(item: Any, make: MakeBatch | None = None) -> Batch:
    """Unpacks a batch.

    Raises:
        DataError: If it is not a pair of tensors.
    """
    pair = item if make is None else make(item)
    if isinstance(pair, tuple | list) and len(pair) == 2:
        inputs, targets = (torch.as_tensor(part) if isinstance(part, numpy.ndarray) else part for part in pair)
        if isinstance(inputs, Tensor) and isinstance(targets, Tensor):
            return inputs, plain_targets(targets)
    refuse_several_inputs(pair)
    if make is not None:
        raise DataError(f"batch(item) must return a pair of tensors (inputs, targets), not {_words(pair)}")
    raise DataError(
        f"a batch must be a pair of tensors (inputs, targets), not {_words(pair)}; say how to take it apart with "
        "roles_from_loaders(..., batch=lambda item: (inputs, targets)), or give an amc.OwnTask in place of data"
    )


def refuse_several_inputs(pair: Any) -> None:
    """Says what to give for a network of several inputs, where its data comes as `((a, b), targets)`.

    Raises:
        DataError: If it does.
    """
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        return
    inputs, targets = pair
    if not isinstance(inputs, tuple | list | dict) or not isinstance(targets, Tensor | numpy.ndarray | int | float):
        return
    parts = list(inputs.values() if isinstance(inputs, dict) else inputs)
    if parts and all(isinstance(part, Tensor | numpy.ndarray) for part in parts):
        raise DataError(
            f"the inputs of data must be one tensor, not a {type(inputs).__name__} of {len(parts)}; a network of "
            "several inputs takes an amc.OwnTask in place of data, with functions evaluate and finetune of your own"
        )


def plain_targets(targets: Tensor) -> Tensor:
    """Returns whole numbers, and what is true or false once an item, as int64; others stay."""
    stays = targets.is_floating_point() or (targets.dtype == torch.bool and targets.dim() > 1)
    return targets if stays else targets.long()


def collect(items: Iterable[Any], count: int | None = None, make: MakeBatch | None = None) -> ImageSet:
    """Joins batches, or single items of a stream, in memory: the first `count` items.

    Raises:
        DataError: If there are none, or they are not pairs.
    """
    inputs: list[Tensor] = []
    targets: list[Tensor] = []
    for batch, wanted in _batches(items, make):
        inputs.append(batch)
        targets.append(wanted)
        if count is not None and sum(len(part) for part in targets) >= count:
            break
    if not inputs:
        raise DataError("the data must hold at least one batch; it is empty (an iterator can be read only once)")
    try:
        joined = torch.cat(inputs)[:count], torch.cat(targets)[:count]
    except RuntimeError as error:
        raise DataError(
            f"all inputs, and all targets, must have one shape to be kept in memory: {error}; give a map-style data "
            "set, or bring them to one shape"
        ) from error
    return ImageSet(joined[0], whole_classes(joined[1]), as_given=True)


def whole_classes(targets: Tensor) -> Tensor:
    """Returns classes that come as floating-point numbers, one an item, as int64; other targets stay."""
    one_each = targets.dim() == 1 and targets.is_floating_point()
    return targets.long() if one_each and bool((targets == targets.round()).all()) else targets


def is_single(pair: Any) -> bool:
    """Returns whether a pair is one item: its target is a number, or does not match the first axis of the input."""
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        return False
    inputs, target = pair
    if isinstance(target, bool | int | float | numpy.number):
        return True
    if not isinstance(target, Tensor | numpy.ndarray) or not isinstance(inputs, Tensor | numpy.ndarray):
        return False
    return target.ndim == 0 or inputs.ndim == 0 or len(target) != len(inputs)


def _batches(items: Iterable[Any], make: MakeBatch | None) -> Iterator[Batch]:
    """Yields batches; single items are combined."""
    waiting: list[Any] = []
    for item in items:
        pair = item if make is None else make(item)
        if not is_single(pair):
            yield pair_of(pair)
            continue
        waiting.append(tuple(pair))
        if len(waiting) == READ_SIZE:
            yield _joined(waiting)
            waiting = []
    if waiting:
        yield _joined(waiting)


def _joined(items: list[Any]) -> Batch:
    try:
        return pair_of(default_collate(items))
    except (TypeError, RuntimeError) as error:
        raise DataError(
            f"items must be pairs (input, target) of tensors or numbers, all of one shape: {error}; convert them in "
            "the data set"
        ) from error


def _words(item: Any) -> str:
    """Describes what a batch is."""
    if isinstance(item, tuple | list):
        return f"a {type(item).__name__} of {', '.join(type(part).__name__ for part in item) or 'nothing'}"
    keys = f" with the keys {', '.join(map(str, item))}" if isinstance(item, dict) else ""
    return f"{type(item).__name__}{keys}"
