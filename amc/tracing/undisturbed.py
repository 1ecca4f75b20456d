"""Restoring a network after it has been run for its structure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Restores the mode of every module, and all buffers: those that a module has replaced meanwhile, too."""
    modes = {module: module.training for module in model.modules()}
    buffers = [
        (module._buffers, name, buffer, buffer.clone())
        for module in modes
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
        with torch.no_grad():
            for holder, name, buffer, values in buffers:
                holder[name] = buffer.copy_(values)


@contextmanager
def remembering_nothing(model: nn.Module) -> Iterator[None]:
    """Restores the attributes of every module, and the contents of those that are containers."""
    before = [(module, dict(vars(module)), _contents(module)) for module in model.modules()]
    try:
        yield
    finally:
        for module, attributes, contents in before:
            vars(module).clear()
            vars(module).update(attributes)
            for name, held in contents.items():
                _refill(attributes[name], held)


def _contents(module: nn.Module) -> dict[str, Any]:
    return {name: value.copy() for name, value in vars(module).items() if type(value) in (dict, list, set)}


def _refill(container: Any, contents: Any) -> None:
    """Restores the contents of a container, in order, if anything has changed."""
    if type(container) is list:
        container[:] = contents
    else:
        container.clear()
        container.update(contents)
