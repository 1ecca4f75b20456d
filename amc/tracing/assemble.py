"""Turns the record of a trace into a `ModelStructure`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from amc.structure.extents import CostTerm, Extent
from amc.structure.model_structure import ChannelGroup, ModelStructure, ModuleAttribute, TensorSpec
from amc.structure.residual_blocks import is_within
from amc.tracing.axes import AxisKey
from amc.tracing.entries import Factor
from amc.tracing.grouping import Grouping, grouping_of
from amc.tracing.layer_specs import layer_specs, sums_of
from amc.tracing.not_run import layers_not_run
from amc.tracing.own_parameters import settle_parameters
from amc.tracing.record import Trace
from amc.tracing.units import Labels
from amc.utils.file_layout import tensors_by_names

Noted = Sequence[tuple[str, str, Labels]]
"""Numbers that follow the widths: module, name, labels."""


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
    settle_parameters(trace)
    grouping = grouping_of(trace)
    dropping = Dropping(blocks, len(grouping.groups))
    running = trace.branches.modules_by_cost() if trace.branches is not None and blocks else {}
    flops: dict[tuple[Extent, ...], int] = defaultdict(int)
    for place, (coefficient, factors) in enumerate(trace.costs):
        extents = [grouping.extent(factor, trace) for factor in factors]
        constant, open_factors = _split_constants([*extents, *dropping.factors(running.get(place, ()))])
        flops[open_factors] += coefficient * constant
    return ModelStructure(
        layers=layer_specs(trace, grouping),
        sums=tuple(found for record in trace.layers.values() for found in sums_of(trace, record)),
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
