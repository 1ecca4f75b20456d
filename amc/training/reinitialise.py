"""Giving a network new weights, whatever its shapes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from amc.errors import ModelError
from amc.utils.random_state import isolated_random_state


def reinitialise(model: nn.Module, seed: int) -> None:
    """Draws all weights of a network at random, in place, with its modules' `reset_parameters`.

    Args:
        model: The network; pruned layers are drawn for the inputs they have left.
        seed: Seed of the draws; the global random state is left as it was.

    Raises:
        ModelError: If a parameter belongs to a module that cannot reset it.
    """
    with isolated_random_state(seed):
        for name, module in model.named_modules():
            reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
            if callable(reset):
                reset()
            elif module._parameters:
                raise ModelError(
                    f"the module {name or type(model).__name__!r} has weights and no reset_parameters, so that it "
                    "cannot be trained from new weights; give it one, or choose another schedule"
                )


def shuffled(weights: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Returns weights shuffled within each tensor of two dimensions or more, so that their distribution is the same.

    Args:
        weights: Tensors by name, from before any training.
        seed: Seed of the order.
    """
    generator, found = torch.Generator().manual_seed(seed), dict(weights)
    for name, tensor in weights.items():
        if tensor.dim() > 1 and tensor.is_floating_point():
            order = torch.randperm(tensor.numel(), generator=generator).to(tensor.device)
            found[name] = tensor.flatten()[order].reshape(tensor.shape)
    return found
