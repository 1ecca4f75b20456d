"""Tries every cut out before it is offered: groups with which the cut network fails are left alone."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_iter

from amc.structure.extents import CostTerm, Extent
from amc.structure.model_structure import ModelStructure, ModuleAttribute
from amc.structure.slicing import cut

TOLERANCE = 1e-3
"""Largest difference, relative to the largest output, between a cut network and the dense one that ignores the same
channels."""


def without_failing_groups(model: nn.Module, structure: ModelStructure, example_input: Any) -> ModelStructure:
    """Cuts half of every group and runs the network; groups with which that fails are marked with the reason.

    Args:
        model: The dense network.
        structure: Its structure as traced.
        example_input: One example input.

    Returns:
        The structure, with a reason on every group that cannot be cut after all.
    """
    failures: dict[int, str] = {}
    streams = [index for index in structure.prunable if structure.groups[index].residual]
    inner = [index for index in structure.prunable if not structure.groups[index].residual]
    for groups in (streams, inner):
        _search(model, structure, example_input, groups, failures)
    return frozen(structure, failures) if failures else structure


def _search(
    model: nn.Module, structure: ModelStructure, example_input: Any, groups: Sequence[int], failures: dict[int, str]
) -> None:
    """Halves the set of groups until each failure is pinned on one."""
    failure = _failure(model, structure, example_input, groups) if groups else None
    if failure is None:
        return
    if len(groups) == 1:
        failures[groups[0]] = failure
        return
    middle = len(groups) // 2
    for half in (groups[:middle], groups[middle:]):
        _search(model, structure, example_input, half, failures)


def _failure(model: nn.Module, structure: ModelStructure, example_input: Any, groups: Sequence[int]) -> str | None:
    """Returns why a network cut at these groups is wrong, or None."""
    kept = {index: half_of(structure.groups[index].channels) for index in groups}
    small = copy.deepcopy(model).eval()
    cut(small, structure, kept)
    try:
        outputs = run(small, example_input)
    except Exception as error:
        message = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return f"the network's code counts on its width: {message}"
    if any(structure.groups[index].normalised for index in groups):
        return None
    reference = copy.deepcopy(model).eval()
    _ignore(reference, structure, kept)
    expected = run(reference, example_input)
    scale = max((float(tensor.abs().max()) for tensor in expected), default=0.0)
    gaps = [float((a - b).abs().max()) for a, b in zip(outputs, expected, strict=True) if a.shape == b.shape]
    if len(gaps) < len(expected) or max(gaps, default=0.0) > TOLERANCE * (scale + 1e-6):
        return "the network computes something else when it is narrower"
    return None


def half_of(channels: int) -> Tensor:
    """Returns an irregular half of the channels, at least one and not all."""
    chosen = [channel for channel in range(channels) if (channel * 7919 + 3) % 11 < 6]
    return torch.tensor(chosen if 0 < len(chosen) < channels else [channels - 1], dtype=torch.int64)


def run(model: nn.Module, example_input: Any) -> list[Tensor]:
    """Runs a network without gradients and returns all floating-point outputs."""
    with torch.no_grad():
        if isinstance(example_input, Tensor):
            output = model(example_input)
        elif isinstance(example_input, dict):
            output = model(**example_input)
        else:
            output = model(*example_input)
    return [value for value in tree_iter(output) if isinstance(value, Tensor) and value.is_floating_point()]


def _ignore(model: nn.Module, structure: ModelStructure, kept: dict[int, Tensor]) -> None:
    """Zeroes the weights that read removed channels, so that the dense network ignores them."""
    tensors = dict(model.named_parameters())
    for index, channels in kept.items():
        group = structure.groups[index]
        gone = sorted(set(range(group.channels)) - set(channels.tolist()))
        for entry in group.cuts:
            if entry.role == "read":
                positions = [position for channel in gone for position in entry.positions[channel]]
                with torch.no_grad():
                    tensors[entry.tensor].index_fill_(entry.axis, torch.tensor(positions), 0.0)


def frozen(structure: ModelStructure, reasons: dict[int, str]) -> ModelStructure:
    """Returns the structure with some groups marked as not to be cut, their widths substituted in all costs."""
    groups = tuple(
        replace(group, reason=reasons.get(index, group.reason)) for index, group in enumerate(structure.groups)
    )

    def closed(extent: Extent) -> Extent:
        added = sum(count * groups[index].channels for index, count in extent.counts if index in reasons)
        return Extent(extent.constant + added, tuple(pair for pair in extent.counts if pair[0] not in reasons))

    def terms(old: tuple[CostTerm, ...]) -> tuple[CostTerm, ...]:
        return tuple(CostTerm(term.coefficient, tuple(closed(factor) for factor in term.factors)) for term in old)

    attributes = [ModuleAttribute(a.module, a.attribute, closed(a.value)) for a in structure.attributes]
    return replace(
        structure,
        groups=groups,
        flops_terms=terms(structure.flops_terms),
        params_terms=terms(structure.params_terms),
        attributes=tuple(a for a in attributes if a.value.counts),
    )
