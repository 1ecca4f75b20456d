"""How operators write at positions or by a mask, on tensors of the form of their target, so on labels too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from amc.tracing.record import Trace
from amc.tracing.rules_move import combined
from amc.tracing.shadow import Shadow


@dataclass(frozen=True)
class Writing:
    """How an operator writes, for tensors in the form of its target.

    Attributes:
        read: Returns what stands where it writes.
        write: Returns a tensor with something else written there.
        addressed: The axes on which a tensor, or a number, tells the positions.
        picked: The axes on which a mask tells single elements.
    """

    read: Callable[[Tensor], Tensor]
    write: Callable[[Tensor, Tensor], Tensor]
    addressed: frozenset[int] = frozenset()
    picked: frozenset[int] = frozenset()


def _put(trace: Trace, given: Mapping[str, Any]) -> Writing:
    """`target[indices] = values`."""
    addressed: set[int] = set()
    picked: set[int] = set()
    places: list[Any] = []
    axis = 0
    for index in given["indices"]:
        places.append(slice(None) if index is None else index.cpu())
        if index is not None and is_mask(index):
            picked.update(range(axis, axis + index.dim()))
            _couple_mask(trace, trace.shadow(given["self"]), index, axis)
        elif index is not None:
            addressed.add(axis)
        axis += index.dim() if index is not None and is_mask(index) else 1

    def write(labels: Tensor, values: Tensor) -> Tensor:
        labels[tuple(places)] = values
        return labels

    return Writing(lambda labels: labels[tuple(places)], write, frozenset(addressed), frozenset(picked))


def is_mask(index: Tensor) -> bool:
    """Returns whether a tensor tells places by yes and no, not by numbers."""
    return index.dtype in (torch.bool, torch.uint8)


def _couple_mask(trace: Trace, target: Shadow, mask: Tensor, axis: int) -> None:
    """Couples channels with those of a mask that picks single elements of them."""
    covered = range(axis, axis + mask.dim())
    if target.varying and set(target.varying) <= set(covered):
        core = target.core.reshape([target.core.size(each) for each in covered])
        combined(trace, [Shadow(core, tuple(mask.shape)), trace.shadow(mask)], tuple(mask.shape))


def _along(trace: Trace, given: Mapping[str, Any]) -> Writing:
    """Writing at positions on one axis, the same for all that lies on the others."""
    axis, index = given["dim"] % given["self"].dim(), given["index"].cpu()
    return Writing(
        lambda labels: labels.index_select(axis, index),
        lambda labels, values: labels.index_copy(axis, index, values.contiguous()),
        frozenset([axis]),
    )


def _scattered(trace: Trace, given: Mapping[str, Any]) -> Writing:
    """Writing at positions on one axis that differ along the others, which all have to be of the same lengths."""
    target, index, source = given["self"], given["index"].cpu(), given.get("src")
    axis = given["dim"] % target.dim()
    lengths = [target.shape, *([source.shape] if isinstance(source, Tensor) else [])]
    partial = {each for each, size in enumerate(index.shape) if any(shape[each] != size for shape in lengths)}
    return Writing(
        lambda labels: labels.gather(axis, index),
        lambda labels, values: labels.scatter(axis, index, values.contiguous()),
        frozenset({axis, *partial}),
    )


def _selected(trace: Trace, given: Mapping[str, Any]) -> Writing:
    """Writing at one position."""
    axis, index = given["dim"] % given["self"].dim(), int(given["index"])
    return Writing(
        lambda labels: labels.select(axis, index),
        lambda labels, values: labels.select_scatter(values, axis, index),
        frozenset([axis]),
    )


def _sliced(trace: Trace, given: Mapping[str, Any]) -> Writing:
    """Writing into a slice."""
    axis = given.get("dim", 0) % given["self"].dim()
    places = [slice(None)] * axis + [slice(given.get("start"), given.get("end"), given.get("step", 1))]

    def write(labels: Tensor, values: Tensor) -> Tensor:
        labels[tuple(places)] = values
        return labels

    return Writing(lambda labels: labels[tuple(places)], write, frozenset([axis]))


def _masked(trace: Trace, given: Mapping[str, Any]) -> Writing:
    """Writing the elements of a source, one after the other, where a mask tells."""
    shape, mask = given["self"].shape, given["mask"].expand(given["self"].shape)
    picked = {each for each in range(mask.dim()) if shape[each] > 1 and mask.stride(each) != 0}
    lies_last = set(trace.shadow(given["self"]).varying) <= {mask.dim() - 1}
    if not lies_last or not _repeats(trace, given["source"], shape[-1]):
        picked.update(range(mask.dim()))
    places = mask.cpu()
    return Writing(
        lambda labels: labels[places],
        lambda labels, values: labels.masked_scatter(places, values.contiguous()),
        picked=frozenset(picked),
    )


def _repeats(trace: Trace, source: Tensor, length: int) -> bool:
    """Returns whether the labels of a source, read one after the other, repeat after a length."""
    labels = trace.shadow(source).full().reshape(-1)
    rows = labels[: len(labels) // length * length].reshape(-1, length)
    return not len(labels) % length and bool((rows == rows[:1]).all())


SCATTERING = frozenset({"scatter", "scatter_add", "scatter_reduce"})
SUMMING = frozenset({"index_add", "index_reduce", "scatter_add", "scatter_reduce"})
WRITINGS: dict[str, Callable[[Trace, Mapping[str, Any]], Writing]] = {
    **dict.fromkeys(("index_put", "_index_put_impl", "_unsafe_index_put"), _put),
    **dict.fromkeys(("index_copy", "index_add", "index_fill", "index_reduce"), _along),
    **dict.fromkeys(SCATTERING, _scattered),
    "select_scatter": _selected,
    "slice_scatter": _sliced,
    "masked_scatter": _masked,
}
