"""Weight-pruned networks on the command line: their zeros stay zero, and cost nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amc.pipeline.config import RunConfig
from amc.storage.summary import read_summary

if TYPE_CHECKING:
    from torch import nn


def is_sparse(folder: Path, config: RunConfig) -> bool:
    """Returns whether a folder's network was pruned weight by weight, judging by its figures or else its options."""
    summary = read_summary(folder)
    family = None if summary is None else summary.family
    return (family or config.pruning.family) == "weight"


def zeros_kept(model: nn.Module) -> Callable[[nn.Module], None]:
    """Returns a function to call after every training step, which sets the weights that are zero now to zero again."""
    from amc.pruning.masks import apply_masks, masks_of_zeros

    masks = masks_of_zeros(model)
    return partial(apply_masks, masks=masks)


def costs_of(model: nn.Module, example_input: Any, *, sparse: bool) -> dict[str, int]:
    """Counts what a network costs, by metric, without its zeros if it is sparse."""
    from amc.costs.metrics import counted
    from amc.problem.effective import effective_costs

    if sparse:
        return effective_costs(model, example_input)
    return counted(model, example_input)
