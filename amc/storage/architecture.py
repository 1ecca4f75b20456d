"""The JSON description of a pruned network, from which its shapes are rebuilt without pickle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from torch import nn

from amc.errors import CheckpointError
from amc.runtime.call import named_tensors
from amc.runtime.statistics import keep_statistics
from amc.storage.composition import composed
from amc.storage.example_input import describe_input
from amc.storage.fit import WeightsHeader, check_attributes, check_outline, cut_positions, drop
from amc.storage.positions import format_positions
from amc.storage.recurrent_fit import check_recurrent
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
from amc.utils.format_numbers import other_version
from amc.utils.plain_json import as_type

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
        model: The dense network, or one that was cut before.
        structure: Its structure; None if nothing was cut.
        kept: The kept channels of every group that was cut, by its index.
        source: Where the dense network comes from; of a network that was cut before, how, too.
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
        "dropped": {},
    }
    if structure is not None and kept:
        _describe_cuts(record, model, structure, kept)
    return record if source.earlier is None else composed(source.earlier, record)


def _describe_cuts(record: dict[str, Any], model: nn.Module, structure: ModelStructure, kept: Kept) -> None:
    """Adds what is left of groups, tensors and sizes to a record."""
    state = named_tensors(model)
    stays = kept_positions(structure, kept, {name: tensor.shape for name, tensor in state.items()})
    channels = {index: kept[index] for index in sorted(kept) if structure.groups[index].block is None}
    record["groups"] = {structure.groups[index].name: format_positions(stay) for index, stay in channels.items()}
    record["tensors"] = {
        name: {str(axis): format_positions(positions) for axis, positions in axes.items()}
        for name, axes in stays.items()
    }
    widths = widths_of(structure, kept)
    record["attributes"] = [list(entry) for entry in attribute_values(structure, widths)]
    record["dropped"] = structure.dropped(widths)


def rebuild(
    record: Mapping[str, Any],
    model: nn.Module | None,
    *,
    trust: bool = False,
    header: WeightsHeader | None = None,
) -> nn.Module:
    """Builds the network that a record describes, with weights yet to be loaded.

    Args:
        record: What `describe` returned.
        model: The dense network, which is changed in place; built from the record's source if None.
        trust: Whether code that the source names may be run; see `ModelSource.build`.
        header: The header of the weights file. A network that is built by name is checked against it first, without
            values, so that it takes no more memory than the file justifies.

    Raises:
        ConsentError: If the source names code, and neither a network nor `trust` is given.
        CheckpointError: If the record is of another format, is damaged, or does not fit the network.
        ModelError: If the dense network cannot be built.
    """
    plan = plan_of(record)
    source = ModelSource(plan.source.kind, plan.source.reference, plan.source.options)
    if model is None and header is not None and not trust:
        outline = source.outline()
        if outline is not None:
            drop(outline, plan.dropped)
            check_outline(outline, plan.tensors, header)
    network = source.build(trust=trust) if model is None else model
    keep_statistics(network)
    if plan.tensors or plan.dropped:
        make_sliceable(network)
    drop(network, plan.dropped)
    cut = cut_positions(network, plan.tensors)
    check_attributes(network, plan.attributes)
    state = named_tensors(network)
    set_tensors(network, {name: slice_tensor(state[name].detach(), axes) for name, axes in cut.items()})
    set_attributes(network, plan.attributes)
    if plan.tensors or plan.attributes:
        check_recurrent(network)
    return network


class _Source(msgspec.Struct, forbid_unknown_fields=True):
    """Where the dense network comes from; see `ModelSource`."""

    kind: Literal["name", "class"]
    reference: Annotated[str, msgspec.Meta(max_length=500)]
    options: dict[str, Any] = {}


class Plan(msgspec.Struct):
    """The part of a record that a network is rebuilt from."""

    source: _Source
    tensors: dict[str, dict[Annotated[str, msgspec.Meta(pattern="^[0-9]{1,2}$")], str]]
    attributes: list[tuple[str, str, int]]
    dropped: dict[str, Annotated[int, msgspec.Meta(ge=0, le=100)]] = {}


def _check_format(held: object) -> None:
    """Rejects records of another format, each with its remedy.

    Raises:
        CheckpointError: If it is another.
    """
    older = "load it with that version and save it again with this one's, or compress again"
    if (words := other_version(held, FORMAT, older=older)) is not None:
        raise CheckpointError(f"architecture.json {words}")
    if held != FORMAT:
        raise CheckpointError(
            f"architecture.json must be of format {FORMAT}, not {str(held)[:80]!r}: it is damaged, or of another "
            "program; save the network again"
        )


def plan_of(record: Mapping[str, Any]) -> Plan:
    """Returns a record with its types checked.

    Raises:
        CheckpointError: If it is of another format, or damaged.
    """
    _check_format(record.get("format"))
    try:
        return as_type(dict(record), Plan)
    except ValueError as error:
        raise CheckpointError(
            f"architecture.json must tell source, tensors and attributes, and is damaged: {error}; "
            "save the network again"
        ) from error
