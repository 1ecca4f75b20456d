"""Which number format a network trains in. One step is tried, as some code (`out[keep] = f[keep]`) takes only one."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import nn

from amc.data.splits import DataRoles
from amc.errors import ConfigurationError
from amc.runtime.call import evaluation_mode, first_line, move
from amc.runtime.device import autocast, resolve_dtype
from amc.training.config import FineTuneConfig
from amc.training.objective import objective_of
from amc.training.terms import Batch
from amc.utils.random_state import kept_random_state

_IMAGES = 4
"""Images of the trial step: few, but more than one, for batch norms."""


def training_dtype(model: nn.Module, data: DataRoles, config: FineTuneConfig, device: torch.device) -> torch.dtype:
    """Returns the number format to train in: float32 if `"auto"` would choose one in which a step fails.

    Args:
        model: The network; it is left as it is.
        data: Where the images of the step come from: its search split.
        config: The settings; `config.dtype` is the format asked for.
        device: Where to compute.

    Raises:
        ConfigurationError: If a format was asked for by name and fails, and float32 does not.
    """
    wanted = resolve_dtype(config.dtype, device, data.input_shape)
    if wanted == torch.float32 or (failure := _failure(model, data, config, device, wanted)) is None:
        return wanted
    if _failure(model, data, config, device, torch.float32) is not None:
        return wanted  # the number format is not the reason
    if config.dtype == "auto":
        return torch.float32
    raise ConfigurationError(
        f"the network must run in {wanted} to be trained so, but fails: {failure}; choose finetune.dtype float32"
    )


def _failure(
    model: nn.Module, data: DataRoles, config: FineTuneConfig, device: torch.device, dtype: torch.dtype
) -> str | None:
    """Runs a copy of the network as training and evaluation do; returns the exception, None if it runs."""
    trial = copy.deepcopy(model)
    move(trial, device=device)
    few = data.search.take(range(min(_IMAGES, len(data.search))))
    images, targets = next(iter(few.batches(_IMAGES, device=device)))
    try:
        with kept_random_state(), torch.enable_grad(), autocast(dtype, device):
            with evaluation_mode(trial):
                trial(images)
            objective = objective_of(replace(config, penalties=()), data.task)  # penalties need a training to attach to
            loss = objective.loss(Batch(targets, trial.train()(images)))
            loss.backward()  # type: ignore[no-untyped-call]
    except Exception as error:  # whatever the network's layers raise, or classes without an output
        return first_line(error)
    return None
