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
    try:
        family = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))["pruning"]["family"]
    except (OSError, ValueError, KeyError, TypeError):  # no figures, of another command, or damaged
        family = config.pruning.family
    return bool(family == "weight")


def zeros_kept(model: nn.Module) -> Callable[[nn.Module], None]:
    """Returns what to call after every training step, so that the weights that are zero now stay zero."""
    from amc.pruning.masks import apply_masks, masks_of_zeros

    masks = masks_of_zeros(model)
    return lambda network: apply_masks(network, masks)


def costs_of(model: nn.Module, example_input: Any, *, sparse: bool) -> tuple[int, int]:
    """Counts FLOPs and parameters, without those of zeros if the network is sparse."""
    from amc.costs.counting import count_flops, count_params
    from amc.problem.effective import effective_costs

    if sparse:
        return effective_costs(model, example_input)
    return count_flops(model, example_input), count_params(model)
