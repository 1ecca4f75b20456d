"""Residual branches that can be dropped as a whole, and what takes their place."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from amc.errors import ModelError
from amc.structure.residual_sums import OperatorCall


@dataclass(frozen=True)
class ResidualBlock:
    """A branch that is added to a stream, and without which the stream is left as it is.

    Attributes:
        modules: The modules that run for the branch alone, by name, and how each returns what it computes: 0 for a
            tensor, n for a tuple of n values of which the first is a tensor. None lies within another.
        addition: The addition of stream and branch.
        branch: Which of its two summands is the branch, 0 or 1.
    """

    modules: tuple[tuple[str, int], ...]
    addition: OperatorCall
    branch: int


class Dropped(nn.Module):
    """Stands where a part of a residual branch was: returns zeros in the shape of its first argument.

    Zeros remain zeros in what else the branch computes with them, so that the sum is the stream.
    """

    def __init__(self, values: int = 0) -> None:
        """Takes the form of what is returned.

        Args:
            values: 0 for a tensor; n for a tuple of n values, the first a tensor and the others None.
        """
        super().__init__()
        self.values = values

    def forward(self, *inputs: Tensor, **named: Tensor) -> Any:
        """Returns zeros."""
        first = next(iter((*inputs, *named.values())), None)
        if not isinstance(first, Tensor):
            raise ModelError(
                "what stands in place of a dropped block must be given a tensor, and is given "
                f"{type(first).__name__}: the 'dropped' of its architecture.json names other modules, or another "
                "number of their outputs, than the blocks that were dropped; save the network again"
            )
        zeros = torch.zeros_like(first)
        return zeros if not self.values else (zeros, *[None] * (self.values - 1))


def is_within(name: str, modules: Collection[str]) -> bool:
    """Returns whether a module or tensor is one of some modules, or lies within one."""
    while name:
        if name in modules:
            return True
        name = name.rpartition(".")[0]
    return False


def drop_modules(model: nn.Module, modules: Mapping[str, int]) -> dict[str, nn.Module]:
    """Puts `Dropped` in the place of modules, in place.

    Args:
        model: The network.
        modules: Their names, and the form of what they return; see `ResidualBlock`.

    Returns:
        The modules that were there, by name; `put_back` takes them.
    """
    names = [name for name in modules if not is_within(name.rpartition(".")[0], modules)]
    before = {name: model.get_submodule(name) for name in names}
    for name, module in before.items():
        _set(model, name, Dropped(modules[name]).train(module.training))
    return before


def put_back(model: nn.Module, modules: Mapping[str, nn.Module]) -> None:
    """Puts modules where they were, in place."""
    for name, module in modules.items():
        _set(model, name, module)


@contextmanager
def without_modules(model: nn.Module, modules: Mapping[str, int]) -> Iterator[None]:
    """Drops modules for a while."""
    before = drop_modules(model, modules)
    try:
        yield
    finally:
        put_back(model, before)


def _set(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)
