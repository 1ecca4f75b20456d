"""Masks for weight pruning: which weights stay."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def ranks(scores: Tensor) -> Tensor:
    """Ranks weights by their scores, the highest first.

    Args:
        scores: Any shape, of fewer than 2^31 elements.

    Returns:
        The place of every weight, from 0, int32 of the same shape; among equal scores, those first in memory order come
        first. The `count` weights that score highest are those whose rank is below `count`.
    """
    order = scores.detach().flatten().argsort(descending=True, stable=True)
    places = torch.empty(scores.numel(), dtype=torch.int32, device=scores.device)
    places[order] = torch.arange(scores.numel(), dtype=torch.int32, device=scores.device)
    return places.reshape(scores.shape)


def masks_of_zeros(model: nn.Module) -> dict[str, Tensor]:
    """Returns masks that keep the zeros of a pruned network's weights, by parameter name; vectors have none."""
    return {name: weight.detach() != 0 for name, weight in model.named_parameters() if weight.dim() > 1}


def share_of_zeros(model: nn.Module) -> float:
    """Returns the share of a network's weights that are zero, 0 to 1; vectors do not count."""
    weights = [weight.detach() for weight in model.parameters() if weight.dim() > 1]
    total = sum(weight.numel() for weight in weights)
    return 1.0 - sum(int(weight.count_nonzero()) for weight in weights) / total if total else 0.0


@torch.no_grad()
def apply_masks(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Sets the weights that are pruned to zero; to be called after every optimiser step while fine-tuning.

    Args:
        model: The network, changed in place.
        masks: By parameter name, true where a weight stays.
    """
    parameters = dict(model.named_parameters())
    for name, mask in masks.items():
        parameter = parameters[name]
        # masked_fill, and not a product: a product would keep NaN and leave negative zeros.
        parameter.masked_fill_(~mask.to(parameter.device), 0.0)
