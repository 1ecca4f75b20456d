"""Tries out, before work starts, whether a network has what the terms of a training act on."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import nn

from amc.data.splits import DataRoles
from amc.runtime.call import on_device
from amc.runtime.device import device_of
from amc.training.config import FineTuneConfig
from amc.training.objective import objective_of
from amc.training.retraining import check_dropout
from amc.training.terms import Training
from amc.utils.random_state import isolated_random_state

_FEW = 2  # inputs that a term may look at


def check_terms(model: nn.Module, data: DataRoles, config: FineTuneConfig) -> None:
    """Tries penalties and frozen layers on a copy of a network, and looks for dropout; fine-tuning may be hours away.

    Args:
        model: The dense network, whose layers have the names of the pruned one's.
        data: What it is trained on.
        config: Settings of the training.

    Raises:
        ConfigurationError: If a term finds nothing to act on, or leaves nothing to train.
    """
    if config.dropout == "pruned":
        check_dropout(model)
    if not config.penalties and config.freeze == "none":
        return
    example = on_device(data.calibration.take(range(min(_FEW, len(data.calibration)))).inputs(), device_of(model))
    tried = copy.deepcopy(model)
    training = Training(tried, torch.optim.SGD(tried.parameters(), lr=1.0), 1, 1, len(data.train), example)
    objective = objective_of(replace(config, dropout="same"), data.task)
    with isolated_random_state(0), objective.attached(training):
        pass
