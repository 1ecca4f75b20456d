"""The JSON description of a pruned network, from which its shapes are rebuilt without pickle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from amc.errors import CheckpointError
from amc.runtime.call import named_tensors
from amc.storage.example_input import describe_input
from amc.storage.source import ModelSource
from amc.structure import ModelStructure
from amc.structure.sliceable import make_sliceable
from amc.structure.slicing import (
    Kept,
    attribute_values,
    kept_positions,
    set_attributes,
    set_tensors,
    slice_tensor,
    widths_of,
)

FORMAT = 1


def describe(
    model: nn.Module,
    structure: ModelStructure | None,
    kept: Kept,
    source: ModelSource,
    *,
    example_input: Any = None,
) -> dict[str, Any]:
    """Describes how a dense network was cut.

    Args:
        model: The dense network.
        structure: Its structure; None if nothing was cut.
        kept: The kept channels of every group that was cut, by its index.
        source: Where the dense network comes from.
        example_input: One input of the network, of which shapes and types are recorded; not recorded if None.

    Returns:
        A JSON-able record; `rebuild` reads it.
    """
    record: dict[str, Any] = {
        "format": FORMAT,
        "source": {"kind": source.kind, "reference": source.reference, "options": dict(source.options)},
        "input": None if example_input is None else describe_input(example_input),
        "groups": {},
        "tensors": {},
        "attributes": [],
    }
    if structure is None or not kept:
        return record
    state = named_tensors(model)
    stays = kept_positions(structure, kept, {name: tensor.shape for name, tensor in state.items()})
    record["groups"] = {structure.groups[index].name: format_positions(kept[index]) for index in sorted(kept)}
    record["tensors"] = {
        name: {str(axis): format_positions(positions) for axis, positions in axes.items()}
        for name, axes in stays.items()
    }
    record["attributes"] = [list(entry) for entry in attribute_values(structure, widths_of(structure, kept))]
    return record


def rebuild(record: Mapping[str, Any], model: nn.Module | None, *, trust: bool = False) -> nn.Module:
    """Builds the network that a record describes, with weights yet to be loaded.

    Args:
        record: What `describe` returned.
        model: The dense network, which is changed in place; built from the record's source if None.
        trust: Whether code that the source names may be run; see `ModelSource.build`.

    Raises:
        ConsentError: If the source names code, and neither a network nor `trust` is given.
        CheckpointError: If the record is of another format, is damaged, or does not fit the network.
        ModelError: If the dense network cannot be built.
    """
    if record.get("format") != FORMAT:
        raise CheckpointError(f"architecture.json must be of format {FORMAT}, not {record.get('format')!r}; update amc")
    _check_record(record)
    network = ModelSource(**record["source"]).build(trust=trust) if model is None else model
    if record["tensors"]:
        make_sliceable(network)
    state = named_tensors(network)
    unknown = sorted(set(record["tensors"]) - set(state))
    if unknown:
        raise CheckpointError(
            f"the dense network {type(network).__name__} does not fit: it has no tensor {unknown[0]!r} "
            f"({len(unknown)} missing); give the network that was compressed"
        )
    sliced: dict[str, Tensor] = {}
    for name, axes in record["tensors"].items():
        positions = {int(axis): parse_positions(text) for axis, text in axes.items()}
        _check_axes(name, state[name], positions)
        sliced[name] = slice_tensor(state[name].detach(), positions)
    set_tensors(network, sliced)
    set_attributes(network, [(module, attribute, value) for module, attribute, value in record["attributes"]])
    return network


def _check_record(record: Mapping[str, Any]) -> None:
    """Checks that a record has the parts that a network is rebuilt from."""
    for name, kind in (("source", Mapping), ("tensors", Mapping), ("attributes", list)):
        if not isinstance(record.get(name), kind):
            raise CheckpointError(
                f"architecture.json must tell the network's {name}, and is damaged; save the network again"
            )
    source = record["source"]
    if not {"kind", "reference"} <= source.keys() <= {"kind", "reference", "options"}:
        raise CheckpointError(
            f"the source in architecture.json must have kind, reference and options, and has {sorted(source)}; "
            "save the network again"
        )


def _check_axes(name: str, tensor: Tensor, positions: Mapping[int, Tensor]) -> None:
    """Checks that a dense tensor has all the positions that are to stay."""
    for axis, stays in positions.items():
        if axis >= tensor.dim() or int(stays.max()) >= tensor.shape[axis]:
            raise CheckpointError(
                f"the dense network does not fit: tensor {name!r} has shape {tuple(tensor.shape)} and lacks position "
                f"{int(stays.max())} of axis {axis}; give the network that was compressed"
            )


def format_positions(positions: Tensor) -> str:
    """Writes rising positions as ranges, such as `"0-3,7"`."""
    parts: list[list[int]] = []
    for position in positions.tolist():
        if parts and position == parts[-1][1] + 1:
            parts[-1][1] = position
        else:
            parts.append([position, position])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)


def parse_positions(text: str) -> Tensor:
    """Reads what `format_positions` wrote, as int64."""
    bounds = [part.partition("-") for part in text.split(",")]
    positions = [p for first, _, last in bounds for p in range(int(first), int(last or first) + 1)]
    return torch.tensor(positions, dtype=torch.int64)
