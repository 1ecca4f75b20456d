"""Masks for weight pruning: which weights stay."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def largest_weights(weight: Tensor, count: int) -> Tensor:
    """Marks the weights of largest magnitude.

    Args:
        weight: Any shape.
        count: How many to keep, exactly; among equal magnitudes, those first in memory order stay.

    Returns:
        A boolean mask of the weight's shape.
    """
    order = weight.detach().abs().flatten().argsort(descending=True, stable=True)
    mask = torch.zeros(weight.numel(), dtype=torch.bool, device=weight.device)
    mask[order[:count]] = True
    return mask.reshape(weight.shape)


def masks_of_zeros(model: nn.Module) -> dict[str, Tensor]:
    """Returns masks that keep the zeros of a pruned network's weights, by parameter name; vectors have none."""
    return {name: weight.detach() != 0 for name, weight in model.named_parameters() if weight.dim() > 1}


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
