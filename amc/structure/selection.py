"""Which positions of which tensors stay when channels go: index arithmetic on a traced structure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from amc.structure.model_structure import ModelStructure


@dataclass(frozen=True)
class AxisCut:
    """Everything that cuts one axis of one tensor.

    Attributes:
        axis: The axis.
        length: Its length in the dense network.
        groups: Index of each channel group that cuts the axis, with its positions, `(C, q)`.
        signature: Equal for axes that keep the same positions in every allocation.
    """

    axis: int
    length: int
    groups: tuple[tuple[int, Tensor], ...]
    signature: int

    def kept(self, kept: Mapping[int, Tensor]) -> Tensor:
        """Returns the positions that stay, in rising order, for the kept channels by group."""
        mask = torch.ones(self.length, dtype=torch.bool)
        for group, positions in self.groups:
            if group in kept:
                mask[positions.flatten()] = False
                mask[positions[kept[group]].flatten()] = True
        return mask.nonzero().squeeze(1)


class Slicer:
    """Slices the tensors of a network as an allocation asks, each axis of each tensor exactly once."""

    def __init__(
        self, structure: ModelStructure, shapes: Mapping[str, Sequence[int]], groups: Sequence[int] | None = None
    ) -> None:
        """Collects the cuts of every tensor.

        Args:
            structure: The traced structure.
            shapes: Shapes of the dense network's parameters and buffers.
            groups: Indices of the groups that may be cut; all prunable ones if None.
        """
        found: defaultdict[tuple[str, int], list[tuple[int, tuple[tuple[int, ...], ...]]]] = defaultdict(list)
        for index in structure.prunable if groups is None else groups:
            for cut in structure.groups[index].cuts:
                found[cut.tensor, cut.axis].append((index, cut.positions))
        signatures: dict[object, tuple[int, tuple[tuple[int, Tensor], ...]]] = {}
        axes: defaultdict[str, list[AxisCut]] = defaultdict(list)
        for (name, axis), cuts in found.items():
            length = shapes[name][axis]
            rule = (length, tuple(cuts))
            if rule not in signatures:
                members = tuple((index, torch.tensor(positions)) for index, positions in cuts)
                signatures[rule] = (len(signatures), members)
            signature, members = signatures[rule]
            axes[name].append(AxisCut(axis, length, members, signature))
        self.axes: dict[str, tuple[AxisCut, ...]] = {name: tuple(cuts) for name, cuts in axes.items()}

    def groups_of(self, name: str) -> frozenset[int]:
        """Returns the indices of the groups that cut a tensor."""
        return frozenset(index for cut in self.axes.get(name, ()) for index, _ in cut.groups)

    def touched(self, kept: Mapping[int, Tensor]) -> Iterable[str]:
        """Returns the names of the tensors that lose positions when the groups in `kept` are cut."""
        return [name for name in self.axes if not self.groups_of(name).isdisjoint(kept)]

    def selection(self, kept: Mapping[int, Tensor]) -> Selection:
        """Fixes the kept channels, so that positions are computed once for all tensors that share them."""
        return Selection(self, kept)


class Selection:
    """The positions that one allocation keeps, computed at first use."""

    def __init__(self, slicer: Slicer, kept: Mapping[int, Tensor]) -> None:
        """Remembers the kept channels by group; groups that are not named stay whole."""
        self._slicer, self.kept = slicer, kept
        self._positions: dict[int, Tensor] = {}

    def positions(self, cut: AxisCut) -> Tensor:
        """Returns the positions of an axis that stay, in rising order."""
        if cut.signature not in self._positions:
            self._positions[cut.signature] = cut.kept(self.kept)
        return self._positions[cut.signature]

    def slice(self, name: str, tensor: Tensor, skip_axis: int | None = None) -> Tensor:
        """Slices a tensor on every axis that the kept channels cut.

        Args:
            name: Name of the tensor in the dense network.
            tensor: Its values, dense, but for `skip_axis`.
            skip_axis: An axis that has its final length already.
        """
        for cut in self._slicer.axes.get(name, ()):
            if cut.axis != skip_axis and any(index in self.kept for index, _ in cut.groups):
                tensor = tensor.index_select(cut.axis, self.positions(cut).to(tensor.device))
        return tensor
