"""Running a network without training it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def inference(model: nn.Module) -> Iterator[None]:
    """Runs a network in evaluation mode and without gradients; see `evaluation_mode`."""
    with evaluation_mode(model), torch.inference_mode():
        yield


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Puts a network into evaluation mode, and restores the training flag of each of its modules."""
    flags = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, flag in flags:
            module.training = flag
