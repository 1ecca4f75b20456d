"""Turns the record of a trace into a `ModelStructure`."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from amc.structure.extents import CostTerm, Extent
from amc.structure.model_structure import (
    ChannelGroup,
    LayerSpec,
    ModelStructure,
    ModuleAttribute,
    TensorCut,
    TensorSpec,
)
from amc.structure.residual_blocks import is_within
from amc.structure.residual_sums import ResidualSum
from amc.tracing.entries import Factor, LayerRecord, dense_flops
from amc.tracing.not_run import layers_not_run
from amc.tracing.record import Trace
from amc.tracing.shadow import Shadow
from amc.tracing.units import NEUTRAL, ChannelUnits, Labels
from amc.utils.file_layout import tensors_by_names

AxisKey = tuple[str, int]

NEVER = np.iinfo(np.int64).max
"""Stands for a class of labels that no layer writes."""

Noted = Sequence[tuple[str, str, Labels]]
"""Numbers that follow the widths: module, name, labels."""

Positions = tuple[tuple[int, ...], ...]
"""The positions on an axis of every channel of a group."""


@dataclass(frozen=True)
class Axis:
    """The positions of channels on one axis of one tensor.

    Attributes:
        key: Name of the tensor, and the axis.
        first_label: The smallest label on the axis, which shows when the axis was first seen.
        roots: Every class of labels on the axis, rising.
        counts: How many positions each class has.
        starts: Where the positions of each class start in `positions`.
        positions: All positions, those of one class together and rising.
    """

    key: AxisKey
    first_label: int
    roots: Labels
    counts: Labels
    starts: Labels
    positions: Labels

    @staticmethod
    def of(key: AxisKey, labels: Labels, units: ChannelUnits) -> Axis:
        """Sorts the positions of an axis by the class of their labels."""
        classes = units.find(labels)
        roots, starts, counts = np.unique(np.sort(classes), return_index=True, return_counts=True)
        return Axis(key, int(labels.min()), roots, counts, starts, np.argsort(classes, kind="stable"))

    def of_members(self, members: Labels, known: dict[bytes, Positions]) -> Positions:
        """Returns the positions of every class in `members`, all of which have equally many.

        Args:
            members: Representatives of the classes.
            known: Results so far; equal ones are shared, since most axes of a group are alike.
        """
        found = np.searchsorted(self.roots, members)
        count = int(self.counts[found[0]])
        assert (self.roots[found] == members).all()
        assert (self.counts[found] == count).all()
        places = self.positions[self.starts[found][:, None] + np.arange(count)]
        key = places.shape[1].to_bytes(8, "little") + places.tobytes()
        if key not in known:
            known[key] = tuple(map(tuple, places.tolist()))
        return known[key]


@dataclass(frozen=True)
class Grouping:
    """Groups, and which group every class of labels belongs to.

    Attributes:
        groups: The groups, in the order of execution.
        group_of: For every label that represents a class, the index of its group; -1 for none.
    """

    groups: tuple[ChannelGroup, ...]
    group_of: Labels

    @cached_property
    def _open_group_of(self) -> Labels:
        """As `group_of`, but -1 for groups that must stay."""
        prunable = np.array([group.prunable for group in self.groups] + [False])
        return np.where(prunable[self.group_of], self.group_of, -1)

    def extent(self, factor: Factor, trace: Trace) -> Extent:
        """Returns the length of an axis as a function of the widths of the groups."""
        if isinstance(factor, int):
            return Extent(factor)
        found, totals = np.unique(self._open_group_of[trace.units.find(factor)], return_counts=True)
        counts = dict(zip(found.tolist(), totals.tolist(), strict=True))
        constant = counts.pop(-1, 0)
        return Extent(constant, tuple((index, total // self.groups[index].channels) for index, total in counts.items()))


@dataclass(frozen=True)
class Dropping:
    """What goes with which residual block.

    Attributes:
        blocks: The blocks.
        first: Index of the first among the groups of the structure.
    """

    blocks: Sequence[ChannelGroup]
    first: int

    def blocks_of(self, names: Iterable[str]) -> tuple[int, ...]:
        """Returns the indices of the blocks that take one of some modules or tensors with them."""
        names = list(names)
        return tuple(
            self.first + place
            for place, group in enumerate(self.blocks)
            if group.block is not None and any(is_within(name, dict(group.block.modules)) for name in names)
        )

    def factors(self, names: Iterable[str]) -> list[Extent]:
        """Returns by what a cost is multiplied that goes with these blocks: 1 or 0 for each."""
        return [Extent(0, ((index, 1),)) for index in self.blocks_of(names)]


def assemble(trace: Trace, blocks: Sequence[ChannelGroup] = ()) -> ModelStructure:
    """Returns the structure that a trace describes.

    Args:
        trace: A finished run.
        blocks: The residual blocks that may be dropped.
    """
    _settle_parameters(trace)
    grouping = _grouping(trace)
    dropping = Dropping(blocks, len(grouping.groups))
    running = trace.branches.modules_by_cost() if trace.branches is not None and blocks else {}
    flops: dict[tuple[Extent, ...], int] = defaultdict(int)
    for place, (coefficient, factors) in enumerate(trace.costs):
        extents = [grouping.extent(factor, trace) for factor in factors]
        constant, open_factors = _split_constants([*extents, *dropping.factors(running.get(place, ()))])
        flops[open_factors] += coefficient * constant
    return ModelStructure(
        layers=tuple(_layer(trace, grouping, record) for record in trace.layers.values()),
        sums=tuple(found for record in trace.layers.values() for found in _sums(trace, record)),
        groups=(*grouping.groups, *blocks),
        flops_terms=tuple(CostTerm(coefficient, factors) for factors, coefficient in flops.items()),
        params_terms=_params_terms(trace, grouping, dropping),
        attributes=_attributes(trace.attributes, grouping, trace),
        candidates=_agreed(trace.in_code or [], grouping, trace),
        tensors=_stored_tensors(trace, grouping, dropping),
        not_run=layers_not_run(trace),
    )


def _split_constants(extents: list[Extent]) -> tuple[int, tuple[Extent, ...]]:
    """Multiplies the constant factors out."""
    constant = 1
    for extent in extents:
        if not extent.counts:
            constant *= extent.constant
    return constant, tuple(sorted((e for e in extents if e.counts), key=lambda e: (e.counts, e.constant)))


def _settle_parameters(trace: Trace) -> None:
    """Finds, for parameters that took part in arithmetic, the axis that goes with channels."""
    everything = trace.units.find(np.arange(trace.units.count)) if trace.element_labels else np.zeros(1, dtype=np.int64)
    sizes = np.bincount(everything, minlength=trace.units.count)
    for name, labels in trace.element_labels.items():
        _settle_unused(trace, labels, sizes)
        shadow = Shadow(torch.from_numpy(labels), labels.shape).resolved(trace.units)
        varying = shadow.varying
        if len(varying) == 1:
            vector = shadow.vector(varying[0])
            key = (name, varying[0])
            if key in trace.axis_labels:
                trace.units.union(trace.axis_labels[key], vector)
            assert not isinstance(vector, int)
            trace.axis_labels.setdefault(key, vector)
            trace.roles.setdefault(key, "follow")
        else:
            trace.units.freeze(shadow.labels(), f"meets the parameter {name!r} on several of its axes or on none")


def _settle_unused(trace: Trace, labels: Labels, sizes: Labels) -> None:
    """Assigns unused elements, such as positions beyond the example's, to the rest of their axis.

    That is the last axis along which the elements in use differ.

    Args:
        trace: A finished run.
        labels: Labels of a parameter's elements.
        sizes: How many labels every class has, by its representative.
    """
    classes = trace.units.find(labels)
    unused = sizes[classes] == 1
    if not unused.any() or unused.all():
        return
    for axis in range(labels.ndim - 1, -1, -1):
        others = tuple(other for other in range(labels.ndim) if other != axis)
        leaders = np.where(unused, -1, classes).max(axis=others, keepdims=True)
        if (unused | (classes == leaders)).all() and (leaders >= 0).all():
            trace.units.union(np.where(unused, labels, NEUTRAL), np.broadcast_to(leaders, labels.shape))
            return


def _grouping(trace: Trace) -> Grouping:
    """Joins the classes that cut the same axes at as many positions into groups, in the order of execution."""
    axes = [Axis.of(key, labels, trace.units) for key, labels in trace.axis_labels.items()]
    written = _first_writes(trace)
    alike: dict[tuple[int, str | None], list[int]] = defaultdict(list)
    signatures = _signatures(axes, trace.units.count)
    for root in np.argsort(written, kind="stable")[: np.count_nonzero(written != NEVER)].tolist():
        alike[int(signatures[root]), trace.units.reason(root)].append(root)
    by_root: dict[int, list[Axis]] = defaultdict(list)
    firsts = np.array(sorted(members[0] for members in alike.values()), dtype=np.int64)
    for axis in axes:
        for root in firsts[np.isin(firsts, axis.roots)].tolist():
            by_root[root].append(axis)
    names: dict[str, int] = {}
    groups: list[ChannelGroup] = []
    group_of = np.full(trace.units.count, -1, dtype=np.int64)
    for (_, reason), members in alike.items():
        group_of[members] = len(groups)
        groups.append(_group(trace, np.array(members), by_root[members[0]], reason, names))
    return Grouping(tuple(groups), group_of)


def _first_writes(trace: Trace) -> Labels:
    """Returns for every class the smallest label that a layer writes, by its representative; NEVER if none does."""
    written = np.full(trace.units.count, NEVER, dtype=np.int64)
    for key, labels in trace.axis_labels.items():
        if trace.roles[key] == "write":
            np.minimum.at(written, trace.units.find(labels), labels)
    written[NEUTRAL] = NEVER
    return written


def _signatures(axes: Sequence[Axis], count: int) -> npt.NDArray[np.uint64]:
    """Returns a number for every class that is the same for classes on the same axes at as many positions."""
    signatures = np.zeros(count, dtype=np.uint64)
    for index, axis in enumerate(axes):
        amounts, which = np.unique(axis.counts, return_inverse=True)
        digests = [hashlib.blake2b(f"{index} {amount}".encode(), digest_size=8).digest() for amount in amounts.tolist()]
        signatures[axis.roots] += np.frombuffer(b"".join(digests), dtype=np.uint64)[which]
    return signatures


def _group(
    trace: Trace, members: Labels, axes: Sequence[Axis], reason: str | None, names: dict[str, int]
) -> ChannelGroup:
    ordered = sorted(axes, key=lambda axis: axis.first_label)
    known: dict[bytes, Positions] = {}
    cuts = tuple(TensorCut(*axis.key, axis.of_members(members, known), trace.roles[axis.key]) for axis in ordered)
    writers = tuple(dict.fromkeys(_owner(cut.tensor) for cut in cuts if cut.role == "write"))
    readers = tuple(dict.fromkeys(_owner(cut.tensor) for cut in cuts if cut.role == "read"))
    names[writers[0]] = names.get(writers[0], 0) + 1
    suffix = f"#{names[writers[0]]}" if names[writers[0]] > 1 else ""
    if reason is None and len(members) < 2:
        reason = "a single channel once coupled"
    if reason is None and not any(_owner(weight) in writers for weight in trace.layers):
        reason = "part of an auxiliary head, which the output in evaluation mode does not depend on"
    return ChannelGroup(
        name=writers[0] + suffix,
        channels=len(members),
        cuts=cuts,
        writers=writers,
        readers=readers,
        residual=trace.units.marked(members, "residual"),
        normalised=trace.units.marked(members, "normalised"),
        reason=reason,
    )


def _owner(tensor: str) -> str:
    """Returns the module that holds a tensor; the network's own parameters stand for themselves."""
    return tensor.rpartition(".")[0] or tensor


def _layer(trace: Trace, grouping: Grouping, record: LayerRecord) -> LayerSpec:
    weight = trace.tensors[record.weight]
    module, _, leaf = record.weight.rpartition(".")
    bias = trace.tensors.get(f"{module}.{leaf.replace('weight', 'bias')}") if "weight" in leaf else None
    params = weight.numel() + (0 if bias is None else bias.numel())
    written = _groups_of(trace, grouping, record.out_labels)
    return LayerSpec(
        name=_owner(record.weight),
        kind=record.kind,
        weight=record.weight,
        weight_shape=tuple(weight.shape),
        in_channels=record.in_channels,
        out_channels=record.out_channels,
        kernel_size=record.kernel_size,
        stride=record.stride,
        input_size=record.input_size,
        calls=record.calls,
        flops=sum(dense_flops(*trace.costs[place]) for place in record.costs),
        params=params,
        writes=written[0] if written else None,
        reads=tuple(_groups_of(trace, grouping, record.in_labels)),
        batch_norm=record.batch_norm,
        is_used_evenly=_is_used_evenly(trace, record, weight.numel()),
    )


def _sums(trace: Trace, record: LayerRecord) -> list[ResidualSum]:
    """Returns the sums that a layer can correct; one that runs more than once can correct none."""
    layer = _owner(record.weight)
    if record.calls != 1 or record.weight != f"{layer}.weight":
        return []
    return trace.sums.of_layer(layer, record.batch_norm or layer)


def _is_used_evenly(trace: Trace, record: LayerRecord, weights: int) -> bool:
    """Returns whether one forward pass uses every weight of a layer equally often.

    Of a layer of whose weight parts are used on their own, the parts must make up the weight, each multiplied with as
    many rows.
    """
    if record.kind != "attention":
        return sum(dense_flops(*trace.costs[place]) for place in record.costs) % weights == 0
    sizes, rows = 0, set()
    for coefficient, (*outer, read, written) in (trace.costs[place] for place in record.costs):
        sizes += dense_flops(1, (read, written))
        rows.add(dense_flops(coefficient, outer))
    return sizes == weights and len(rows) == 1


def _groups_of(trace: Trace, grouping: Grouping, labels: Factor) -> list[int]:
    if isinstance(labels, int):
        return []
    indices = dict.fromkeys(grouping.group_of[trace.units.find(labels)].tolist())
    return [index for index in indices if index >= 0]


def _params_terms(trace: Trace, grouping: Grouping, dropping: Dropping) -> tuple[CostTerm, ...]:
    terms: dict[tuple[Extent, ...], int] = defaultdict(int)
    for name, parameter in trace.model.named_parameters():
        axes: list[Factor] = [_axis_factor(trace, (name, axis), length) for axis, length in enumerate(parameter.shape)]
        extents = [grouping.extent(axis, trace) for axis in axes]
        constant, open_factors = _split_constants([*extents, *dropping.factors([name])])
        terms[open_factors] += constant
    return tuple(CostTerm(coefficient, factors) for factors, coefficient in terms.items())


def _stored_tensors(trace: Trace, grouping: Grouping, dropping: Dropping) -> tuple[TensorSpec, ...]:
    """Describes what a file of the network holds."""
    found = []
    for names, tensor in tensors_by_names(trace.model.state_dict()):
        known = next((name for name in names if name in trace.tensors), names[0])  # a trace knows one name of several
        factors = [_axis_factor(trace, (known, axis), length) for axis, length in enumerate(tensor.shape)]
        axes = tuple(grouping.extent(factor, trace) for factor in factors)
        dtype = str(tensor.dtype).removeprefix("torch.")
        found.append(TensorSpec(names[0], dtype, axes, names[1:], dropping.blocks_of([names[0]])))
    return tuple(found)


def _axis_factor(trace: Trace, key: AxisKey, length: int) -> Labels | int:
    return trace.axis_labels.get(key, length)


def _agreed(noted: Noted, grouping: Grouping, trace: Trace) -> tuple[ModuleAttribute, ...]:
    """Returns the numbers that follow the same widths wherever they were noted."""
    values: dict[tuple[str, str], set[Extent]] = defaultdict(set)
    for module, name, labels in noted:
        values[module, name].add(grouping.extent(labels, trace))
    return tuple(
        ModuleAttribute(*place, extent)
        for place, extents in values.items()
        for extent in extents
        if len(extents) == 1 and extent.counts
    )


def _attributes(noted: Noted, grouping: Grouping, trace: Trace) -> tuple[ModuleAttribute, ...]:
    found: dict[tuple[str, str], ModuleAttribute] = {}
    for module, name, labels in noted:
        extent = grouping.extent(labels, trace)
        if extent.counts:
            found[module, name] = ModuleAttribute(module, name, extent)
    return tuple(found.values())
