"""Networks of weight pruning on the command line: their zeros stay, and cost nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amc.pipeline.config import RunConfig
from amc.storage.names import SUMMARY

if TYPE_CHECKING:
    from torch import nn


def is_sparse(folder: Path, config: RunConfig) -> bool:
    """Tells whether the network of a folder has lost single weights: by its figures, or else its options."""
    pruning = read_summary(folder).get("pruning") or {}
    return bool(pruning.get("family", config.pruning.family) == "weight")


def read_summary(folder: Path) -> dict[str, Any]:
    """Returns the figures of a folder; empty if it has none, or they are damaged."""
    try:
        record = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) and "costs" in record else {}


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
