"""The size of the saved file as a metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from amc.costs.cost_model import CostModel
from amc.costs.file_cost import FileCost, FileSize
from amc.structure import ModelStructure, TensorSpec
from amc.utils.file_layout import FileLayout, Whole, digits, file_bytes, tensors_by_names, value_bytes
from amc.utils.sparse_tensors import (
    BITS,
    INDEX,
    LEAST_SAVED,
    VALUES,
    bits_bytes,
    index_entry,
    index_text,
    is_smaller_packed,
    is_weight,
)


class SizeBytes:
    """Bytes of `model.safetensors`, the header included.

    In weight pruning a layer takes its values that are not zero and a bit for each weight, where that is less. Weights
    with many zeros that no decision is about are counted as if they were dense.
    """

    name = "size_bytes"
    noun = "bytes"

    def of_channels(self, structure: ModelStructure, groups: Sequence[int]) -> CostModel:
        """Returns the bytes by kept channels; see `Metric`."""
        widths = [structure.groups[group].channels for group in groups]
        return FileCost(self.name, _ChannelFile.of(structure, groups), widths)

    def of_weights(self, structure: ModelStructure, layers: Sequence[int]) -> CostModel:
        """Returns the bytes by kept weights; see `Metric`."""
        sizes = [prod(structure.layers[index].weight_shape) for index in layers]
        return FileCost(self.name, _WeightFile.of(structure, layers), sizes)

    def count(self, model: nn.Module, example_input: Any) -> int:
        """Counts the bytes of a network's file with all its tensors dense."""
        return file_bytes({names[0]: tensor for names, tensor in tensors_by_names(model.state_dict())})


SIZE_BYTES = SizeBytes()


@dataclass(frozen=True)
class _ChannelFile(FileSize):
    """The file of a network that has lost channels.

    Attributes:
        layout: Lays the tensors out.
        constants: Length of every axis without the channels that are decided about, `(axes,)`; the last axis is 1.
        slopes: Positions that a channel of each decision adds to it, `(axes, decisions)`.
        dims: Axes of every tensor, `(tensors, most axes)`, filled up with the last axis.
        filled: Whether an entry of `dims` was filled up.
        value_bytes: Bytes of one value of every tensor.
        goes_with: Whether a tensor goes with a decision that keeps nothing, `(tensors, decisions)`.
    """

    layout: FileLayout
    constants: Whole
    slopes: Whole
    dims: Whole
    filled: Whole
    value_bytes: Whole
    goes_with: NDArray[np.bool_]

    @staticmethod
    def of(structure: ModelStructure, groups: Sequence[int]) -> _ChannelFile:
        """Reads the axes off the structure; groups that are not decided about count with their dense width."""
        tensors, dense = structure.tensors, structure.dense_widths
        axes = {axis: place for place, axis in enumerate(dict.fromkeys(a for tensor in tensors for a in tensor.axes))}
        column = {group: place for place, group in enumerate(groups)}
        constants, slopes = np.ones(len(axes) + 1, dtype=np.int64), np.zeros((len(axes) + 1, len(groups)), np.int64)
        for axis, place in axes.items():
            constants[place] = axis.constant
            for group, count in axis.counts:
                if group in column:
                    slopes[place, column[group]] += count
                else:
                    constants[place] += count * dense[group]
        most = max((len(tensor.axes) for tensor in tensors), default=0)
        rows = [[axes[a] for a in tensor.axes] + [len(axes)] * (most - len(tensor.axes)) for tensor in tensors]
        dims = np.array(rows, dtype=np.int64).reshape(len(tensors), most)
        values = np.array([value_bytes(tensor.dtype) for tensor in tensors], dtype=np.int64)
        goes = np.array([[group in tensor.blocks for group in groups] for tensor in tensors], dtype=bool)
        goes = goes.reshape(len(tensors), len(groups))
        return _ChannelFile(_layout(tensors), constants, slopes, dims, dims == len(axes), values, goes)

    def size(self, widths: Whole) -> int:
        """Returns the bytes; see `FileSize`."""
        lengths = self.constants + self.slopes @ widths
        shapes = lengths[self.dims]
        written = np.where(self.filled, 0, digits(lengths)[self.dims])
        held: NDArray[np.bool_] = np.logical_not((self.goes_with & (widths == 0)).any(axis=1))
        return self.layout.size(self.value_bytes * shapes.prod(axis=1), written.sum(axis=1), held)


@dataclass(frozen=True)
class _WeightFile(FileSize):
    """The file of a network that has lost single weights.

    The file may hold every tensor as it is, and the parts of those that are taken apart: the index, the bits, and
    values in each number format.

    Attributes:
        layout: Lays the tensors out, in the order of the structure, and then the parts.
        sizes: Bytes of every tensor as it is, then zeros for the parts.
        shape_digits: Digits of its shape, then zeros.
        tensors: Of every decision, the place of its tensor, -1 if it has none.
        values: Bytes of one value of it.
        bits: Bytes of its bits.
        entries: Bytes of its entry in the index.
        formats: Place of its number format among the parts.
    """

    layout: FileLayout
    sizes: Whole
    shape_digits: Whole
    tensors: Whole
    values: Whole
    bits: Whole
    entries: Whole
    formats: Whole

    @staticmethod
    def of(structure: ModelStructure, layers: Sequence[int]) -> _WeightFile:
        """Reads the tensors off the structure."""
        tensors, widths = structure.tensors, structure.dense_widths
        place = {name: index for index, tensor in enumerate(tensors) for name in (tensor.name, *tensor.aliases)}
        shapes = [tuple(axis.length(widths) for axis in tensor.axes) for tensor in tensors]
        found = [place.get(structure.layers[index].weight, -1) for index in layers]
        found = [at if at >= 0 and _may_be_packed(tensors[at], shapes[at]) else -1 for at in found]
        formats = list(dict.fromkeys(tensors[at].dtype for at in found if at >= 0))
        own = [(tensors[at], shapes[at]) if at >= 0 else (TensorSpec("", "float32", ()), ()) for at in found]
        sizes = [value_bytes(tensor.dtype) * prod(shape) for tensor, shape in zip(tensors, shapes, strict=True)]
        written = [int(digits(np.array(shape, dtype=np.int64)).sum()) for shape in shapes]
        parts = 2 + len(formats)
        entries = [len(index_text([index_entry(spec.name, spec.dtype, shape)])) - 2 for spec, shape in own]
        return _WeightFile(
            _layout(tensors, formats),
            np.array([*sizes, *[0] * parts], dtype=np.int64),
            np.array([*written, *[0] * parts], dtype=np.int64),
            np.array(found, dtype=np.int64),
            np.array([value_bytes(spec.dtype) for spec, _ in own], dtype=np.int64),
            np.array([bits_bytes(prod(shape)) for _, shape in own], dtype=np.int64),
            np.array(entries, dtype=np.int64),
            np.array([formats.index(tensors[at].dtype) if at >= 0 else -1 for at in found], dtype=np.int64),
        )

    def size(self, widths: Whole) -> int:
        """Returns the bytes; see `FileSize`."""
        kept = widths * self.values
        packed = (self.tensors >= 0) & (kept + self.bits + LEAST_SAVED < self.sizes[self.tensors])
        held = np.ones(len(self.sizes), dtype=bool)
        held[self._first_part :] = False
        dense = self.layout.size(self.sizes, self.shape_digits, held)
        return min(dense, self._with_parts(kept, packed)) if packed.any() else dense

    @property
    def _first_part(self) -> int:
        return len(self.sizes) - 3 - int(self.formats.max(initial=-1))

    def _with_parts(self, kept: Whole, packed: NDArray[np.bool_]) -> int:
        """Returns the bytes of a file with parts."""
        first, sizes, written = self._first_part, self.sizes.copy(), self.shape_digits.copy()
        held = np.ones(len(sizes), dtype=bool)
        held[self.tensors[packed]] = False
        sizes[first] = 1 + int((self.entries[packed] + 1).sum())  # brackets, and commas between
        sizes[first + 1] = int(self.bits[packed].sum())
        amounts = [sizes[first], sizes[first + 1]]
        for number in range(len(sizes) - first - 2):
            own = packed & (self.formats == number)
            sizes[first + 2 + number], held[first + 2 + number] = int(kept[own].sum()), bool(own.any())
            amounts.append(int(kept[own].sum()) // max(1, int(self.values[own].max(initial=1))))
        written[first:] = digits(np.array(amounts, dtype=np.int64))
        return self.layout.size(sizes, written, held)


def _may_be_packed(tensor: TensorSpec, shape: Sequence[int]) -> bool:
    """Returns whether a file may hold a tensor as bits and values, if enough of it is zero."""
    has_fraction = "float" in tensor.dtype
    return is_weight(shape, has_fraction) and is_smaller_packed(prod(shape), 0, value_bytes(tensor.dtype))


def _layout(tensors: Sequence[TensorSpec], formats: Sequence[str] | None = None) -> FileLayout:
    """Lays out tensors, and the parts of those that are taken apart where their number formats are given."""
    parts = [] if formats is None else [(INDEX, "uint8"), (BITS, "uint8"), *((VALUES + name, name) for name in formats)]
    named = [(tensor.name, tensor.dtype, len(tensor.axes)) for tensor in tensors]
    named += [(name, dtype, 1) for name, dtype in parts]
    return FileLayout.of([name for name, _, _ in named], [dtype for _, dtype, _ in named], [n for _, _, n in named])
