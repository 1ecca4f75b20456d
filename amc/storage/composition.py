"""Cuts of a network that had been cut before, described as cuts of the dense one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from amc.storage.positions import format_positions, parse_positions
from amc.structure.residual_blocks import is_within

_ANY_LENGTH = 1 << 40
"""Longer than any axis: positions were checked against the network when it was loaded."""


def composed(earlier: Mapping[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
    """Joins two records of `describe`.

    Args:
        earlier: How the network was cut from the dense one.
        later: How it was cut after that; its positions are those of the network that was cut already.

    Returns:
        A record of both cuts at once, in positions of the dense network.
    """
    tensors = {name: dict(axes) for name, axes in earlier["tensors"].items()}
    for name, axes in later["tensors"].items():
        known = tensors.setdefault(name, {})
        known.update({axis: _within(known.get(axis), text) for axis, text in axes.items()})
    groups = dict(earlier.get("groups", {}))
    groups.update({name: _within(groups.get(name), text) for name, text in later["groups"].items()})
    dropped = {**earlier.get("dropped", {}), **later.get("dropped", {})}
    attributes = {(module, name): value for module, name, value in [*earlier["attributes"], *later["attributes"]]}
    return {
        **later,
        "source": dict(earlier["source"]),
        "groups": groups,
        "tensors": {name: axes for name, axes in tensors.items() if not is_within(name, dropped)},
        "attributes": [[*place, value] for place, value in attributes.items() if not is_within(place[0], dropped)],
        "dropped": dropped,
    }


def _within(earlier: str | None, later: str) -> str:
    """Returns what stays after both cuts, in the positions that the first one was made in."""
    if earlier is None:
        return later
    first: Tensor = parse_positions(earlier, _ANY_LENGTH)
    return format_positions(torch.index_select(first, 0, parse_positions(later, len(first))))
