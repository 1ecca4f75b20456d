"""Turns what a trace wrote down into a `ModelStructure`."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
import torch

from amc.structure.extents import CostTerm, Extent
from amc.structure.model_structure import (
    ChannelGroup,
    LayerSpec,
    ModelStructure,
    ModuleAttribute,
    ResidualSum,
    TensorCut,
)
from amc.structure.shadow import Shadow
from amc.structure.tracer import Factor, LayerRecord, Trace
from amc.structure.units import Labels

AxisKey = tuple[str, int]


@dataclass
class Unit:
    """One channel: the positions that go with it on every axis of every tensor."""

    root: int
    positions: dict[AxisKey, list[int]] = field(default_factory=lambda: defaultdict(list))
    first_write: int | None = None


@dataclass(frozen=True)
class Grouping:
    """Groups, and which group and channel every class of labels belongs to."""

    groups: tuple[ChannelGroup, ...]
    group_of: dict[int, int]

    def extent(self, factor: Factor, trace: Trace) -> Extent:
        """Returns the length of an axis as a function of the widths of the groups."""
        if isinstance(factor, int):
            return Extent(factor)
        roots, occurrences = np.unique(trace.units.find(factor), return_counts=True)
        counts: dict[int, int] = {}
        constant = 0
        for root, occurrence in zip(roots.tolist(), occurrences.tolist(), strict=True):
            index = self.group_of.get(root)
            if index is None or not self.groups[index].prunable:
                constant += occurrence
            else:
                counts[index] = counts.get(index, 0) + occurrence
        per_channel = [(index, total // self.groups[index].channels) for index, total in sorted(counts.items())]
        return Extent(constant, tuple(per_channel))


def assemble(trace: Trace) -> ModelStructure:
    """Returns the structure that a trace describes."""
    _settle_parameters(trace)
    grouping = _grouping(trace)
    flops: dict[tuple[Extent, ...], int] = defaultdict(int)
    for coefficient, factors in trace.costs:
        constant, open_factors = _split_constants([grouping.extent(factor, trace) for factor in factors])
        flops[open_factors] += coefficient * constant
    return ModelStructure(
        layers=tuple(_layer(trace, grouping, record) for record in trace.layers.values()),
        groups=grouping.groups,
        flops_terms=tuple(CostTerm(coefficient, factors) for factors, coefficient in flops.items()),
        params_terms=_params_terms(trace, grouping),
        attributes=_attributes(trace, grouping),
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
    for name, labels in trace.element_labels.items():
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


def _units(trace: Trace) -> dict[int, Unit]:
    units: dict[int, Unit] = {}
    for key, labels in trace.axis_labels.items():
        for position, root in enumerate(trace.units.find(labels).tolist()):
            unit = units.setdefault(root, Unit(root))
            unit.positions[key].append(position)
            if trace.roles[key] == "write":
                label = int(labels[position])
                unit.first_write = label if unit.first_write is None else min(unit.first_write, label)
    return units


def _grouping(trace: Trace) -> Grouping:
    """Joins the units that cut the same axes at as many positions into groups, in the order of execution."""
    alike: dict[tuple[object, ...], list[Unit]] = defaultdict(list)
    for unit in _units(trace).values():
        if unit.first_write is not None:
            reason = trace.units.reason(unit.root)
            signature = tuple(sorted((key, len(positions)) for key, positions in unit.positions.items()))
            alike[(reason, *signature)].append(unit)
    ordered = sorted(alike.values(), key=lambda members: min(unit.first_write or 0 for unit in members))
    names: dict[str, int] = {}
    groups, group_of = [], {}
    for members in ordered:
        members.sort(key=lambda unit: unit.first_write or 0)
        groups.append(_group(trace, members, names))
        group_of.update({unit.root: len(groups) - 1 for unit in members})
    return Grouping(tuple(groups), group_of)


def _group(trace: Trace, members: list[Unit], names: dict[str, int]) -> ChannelGroup:
    first = members[0]
    keys = sorted(first.positions, key=lambda key: min(trace.axis_labels[key].tolist()))
    cuts = tuple(
        TensorCut(key[0], key[1], tuple(tuple(unit.positions[key]) for unit in members), trace.roles[key])
        for key in keys
    )
    writers = tuple(dict.fromkeys(_module(cut) for cut in cuts if cut.role == "write"))
    readers = tuple(dict.fromkeys(_module(cut) for cut in cuts if cut.role == "read"))
    names[writers[0]] = names.get(writers[0], 0) + 1
    suffix = f"#{names[writers[0]]}" if names[writers[0]] > 1 else ""
    reason = trace.units.reason(first.root)
    if reason is None and len(members) < 2:
        reason = "a single channel once coupled"
    return ChannelGroup(
        name=writers[0] + suffix,
        channels=len(members),
        cuts=cuts,
        writers=writers,
        readers=readers,
        residual=trace.units.marked([unit.root for unit in members], "residual"),
        normalised=trace.units.marked([unit.root for unit in members], "normalised"),
        reason=reason,
    )


def _module(cut: TensorCut) -> str:
    return cut.tensor.rpartition(".")[0]


def _layer(trace: Trace, grouping: Grouping, record: LayerRecord) -> LayerSpec:
    weight = trace.tensors[record.weight]
    name = record.weight.rpartition(".")[0]
    bias = name + ".bias"
    params = weight.numel() + (trace.tensors[bias].numel() if bias in trace.tensors else 0)
    written = _groups_of(trace, grouping, record.out_labels)
    sum_ = record.residual_sum
    return LayerSpec(
        name=name,
        kind=record.kind,
        weight=record.weight,
        weight_shape=tuple(weight.shape),
        in_channels=record.in_channels,
        out_channels=record.out_channels,
        kernel_size=record.kernel_size,
        stride=record.stride,
        input_size=record.input_size,
        calls=record.calls,
        flops=record.flops,
        params=params,
        writes=written[0] if written else None,
        reads=tuple(_groups_of(trace, grouping, record.in_labels)),
        batch_norm=record.batch_norm,
        residual_sum=None if sum_ is None else ResidualSum(*sum_),
    )


def _groups_of(trace: Trace, grouping: Grouping, labels: Factor) -> list[int]:
    if isinstance(labels, int):
        return []
    roots = dict.fromkeys(trace.units.find(labels).tolist())
    return list(dict.fromkeys(grouping.group_of[root] for root in roots if root in grouping.group_of))


def _params_terms(trace: Trace, grouping: Grouping) -> tuple[CostTerm, ...]:
    terms: dict[tuple[Extent, ...], int] = defaultdict(int)
    for name, parameter in trace.model.named_parameters():
        axes: list[Factor] = [_axis_factor(trace, (name, axis), length) for axis, length in enumerate(parameter.shape)]
        constant, open_factors = _split_constants([grouping.extent(axis, trace) for axis in axes])
        terms[open_factors] += constant
    return tuple(CostTerm(coefficient, factors) for factors, coefficient in terms.items())


def _axis_factor(trace: Trace, key: AxisKey, length: int) -> Labels | int:
    return trace.axis_labels.get(key, length)


def _attributes(trace: Trace, grouping: Grouping) -> tuple[ModuleAttribute, ...]:
    found: dict[tuple[str, str], ModuleAttribute] = {}
    for module, name, labels in trace.attributes:
        extent = grouping.extent(labels, trace)
        if extent.counts:
            found[module, name] = ModuleAttribute(module, name, extent)
    return tuple(found.values())
