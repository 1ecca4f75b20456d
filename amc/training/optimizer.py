"""The optimiser of a training."""

from __future__ import annotations

import torch
from torch import nn

from amc.errors import ModelError
from amc.training.config import FineTuneConfig


def sgd_over(model: nn.Module, config: FineTuneConfig) -> torch.optim.SGD:
    """Returns SGD over all parameters that can be trained, the vectors in a group of their own.

    Raises:
        ModelError: If no parameter can be trained.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise ModelError("a network to train must have parameters that require gradients; this one has none")
    vectors = [parameter for parameter in parameters if parameter.dim() <= 1]
    others = [parameter for parameter in parameters if parameter.dim() > 1]
    decay = config.weight_decay
    groups = [
        {"params": others, "weight_decay": decay},
        {"params": vectors, "weight_decay": decay if config.decay_norms else 0.0},
    ]
    return torch.optim.SGD(
        [group for group in groups if group["params"]],
        lr=config.learning_rate or 0.0,  # every step sets it
        momentum=config.momentum,
        nesterov=config.nesterov,
    )
