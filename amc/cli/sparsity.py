"""Networks of weight pruning on the command line: their zeros stay, and cost nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from amc.pipeline.config import RunConfig
from amc.storage.names import SUMMARY
from amc.utils.plain_json import as_type, read_json

if TYPE_CHECKING:
    from torch import nn


class _Cost(msgspec.Struct):
    """What the two networks cost by one metric."""

    dense: float | None
    pruned: float | None


class _Pruning(msgspec.Struct):
    """The options of pruning."""

    family: str


class _Summary(msgspec.Struct):
    """What of the figures is read again."""

    costs: dict[str, _Cost]
    accuracy: dict[str, float | None]
    budget: dict[str, float | None] | None = None
    not_counted: dict[str, int] | None = None
    counted_by_own_rule: dict[str, int] | None = None
    pruning: _Pruning | None = None


def is_sparse(folder: Path, config: RunConfig) -> bool:
    """Tells whether the network of a folder has lost single weights: by its figures, or else its options."""
    pruning = read_summary(folder).get("pruning") or {}
    return bool(pruning.get("family", config.pruning.family) == "weight")


def read_summary(folder: Path) -> dict[str, Any]:
    """Returns the figures of a folder; empty if it has none, or they are damaged."""
    try:
        record = read_json(folder / SUMMARY)
        as_type(record, _Summary)
    except (OSError, ValueError):
        return {}
    return dict(record)


def zeros_kept(model: nn.Module) -> Callable[[nn.Module], None]:
    """Returns what to call after every training step, so that the weights that are zero now stay zero."""
    from amc.pruning.masks import apply_masks, masks_of_zeros

    masks = masks_of_zeros(model)
    return lambda network: apply_masks(network, masks)


def costs_of(model: nn.Module, example_input: Any, *, sparse: bool) -> dict[str, int]:
    """Counts what a network costs, by metric, without its zeros if it is sparse."""
    from amc.costs.metrics import counted
    from amc.problem.effective import effective_costs

    if sparse:
        return effective_costs(model, example_input)
    return counted(model, example_input)
