"""Describes the layers that have run."""

from __future__ import annotations

from collections import Counter

from torch import nn

from amc.structure.model_structure import LayerSpec, owner_of
from amc.structure.residual_sums import ResidualSum
from amc.tracing.entries import Factor, LayerRecord, dense_flops
from amc.tracing.grouping import Grouping
from amc.tracing.record import Trace


def layer_specs(trace: Trace, grouping: Grouping) -> tuple[LayerSpec, ...]:
    """Describes the layers; one is named after its module, or after its weight if the module holds several that ran."""
    held = Counter(owner_of(weight) for weight in trace.layers)
    specs = []
    for record in trace.layers.values():
        owner = owner_of(record.weight)
        specs.append(_layer_spec(trace, grouping, record, owner if held[owner] == 1 else record.weight))
    return tuple(specs)


def _layer_spec(trace: Trace, grouping: Grouping, record: LayerRecord, name: str) -> LayerSpec:
    weight = trace.tensors[record.weight]
    module, _, leaf = record.weight.rpartition(".")
    bias = trace.tensors.get(f"{module}.{leaf.replace('weight', 'bias')}") if "weight" in leaf else None
    params = sum(tensor.numel() for tensor in (weight, bias) if isinstance(tensor, nn.Parameter))
    written = _groups_of(trace, grouping, record.out_labels)
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
        flops=sum(dense_flops(*trace.costs[place]) for place in record.costs),
        params=params,
        writes=written[0] if written else None,
        reads=tuple(_groups_of(trace, grouping, record.in_labels)),
        batch_norm=record.batch_norm,
        is_used_evenly=_is_used_evenly(trace, record, weight.numel()),
        is_parameter=isinstance(weight, nn.Parameter),
        keeps_zeros=record.keeps_zeros,
        is_saved=leaf not in trace.model.get_submodule(module)._non_persistent_buffers_set,
        axes=record.axes,
    )


def sums_of(trace: Trace, record: LayerRecord) -> list[ResidualSum]:
    """Returns the sums that a layer can correct; one that runs more than once can correct none."""
    layer = owner_of(record.weight)
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
