"""Rising positions on an axis as text, such as `"0-3,7"`."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from amc.errors import CheckpointError

_RANGES = re.compile(r"[0-9]{1,12}(-[0-9]{1,12})?(,[0-9]{1,12}(-[0-9]{1,12})?)*")


def format_positions(positions: Tensor) -> str:
    """Writes rising positions as ranges, such as `"0-3,7"`."""
    parts: list[list[int]] = []
    for position in positions.tolist():
        if parts and position == parts[-1][1] + 1:
            parts[-1][1] = position
        else:
            parts.append([position, position])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)


def parse_positions(text: str, length: int) -> Tensor:
    """Reads what `format_positions` wrote, as int64.

    Args:
        text: The ranges.
        length: Length of the axis; no position may reach it, which is checked before anything is allocated.

    Raises:
        CheckpointError: If the text is malformed, does not rise, or lies beyond the axis.
    """
    if not _RANGES.fullmatch(text):
        raise CheckpointError(f"positions must be rising ranges such as '0-3,7', not {text[:40]!r}")
    parts, before = [], -1
    for part in text.split(","):
        first, _, last = part.partition("-")
        low, high = int(first), int(last or first)
        if low <= before or high < low:
            raise CheckpointError(f"positions must be rising ranges such as '0-3,7', which {part!r} is not")
        if high >= length:
            raise CheckpointError(f"the axis has no position {high}: its length is {length}")
        parts.append(torch.arange(low, high + 1))
        before = high
    return torch.cat(parts)
