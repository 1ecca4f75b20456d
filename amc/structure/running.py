"""Running a network on an example of any form: a tensor, a tuple of positional or a mapping of keyword arguments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

ExampleInput = Tensor | Sequence[Any] | Mapping[str, Any]
"""One input of the network: a tensor, a tuple of positional or a mapping of keyword arguments."""


def call(model: nn.Module, example_input: ExampleInput) -> Any:
    """Runs a network on an example."""
    if isinstance(example_input, Tensor):
        return model(example_input)
    if isinstance(example_input, Mapping):
        return model(**example_input)
    return model(*example_input)


def tensors_in(value: Any) -> list[Tensor]:
    """Returns all tensors in nested tuples, lists, mappings and plain objects, such as a network's output."""
    return list(_walk(value, set()))


def _walk(value: Any, seen: set[int]) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
        return
    if id(value) in seen or isinstance(value, (str, bytes, type, nn.Module)):
        return
    seen.add(id(value))
    if isinstance(value, Mapping):
        children = list(value.values())
    elif isinstance(value, (tuple, list, set, frozenset)):
        children = list(value)
    else:
        children = list(getattr(value, "__dict__", {}).values())
    for child in children:
        yield from _walk(child, seen)


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Restores the mode of every module and the values of all buffers."""
    modes = {module: module.training for module in model.modules()}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                if name in buffers:
                    buffer.copy_(buffers[name])
