"""Causal masks of PyTorch's transformers: their stacks compare them value by value, on which no graph may branch."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from amc.runtime.hooks import hooked

_HINTS = {nn.TransformerEncoder: "is_causal", nn.TransformerDecoder: "tgt_is_causal"}


@contextmanager
def masks_as_they_are(model: nn.Module) -> Iterator[None]:
    """Keeps the stacks of a network from asking whether a mask is causal, unless they are told.

    They ask only in order to choose a faster operator: the mask is applied either way.
    """
    stacks = [module for module in model.modules() if isinstance(module, tuple(_HINTS))]
    with hooked([module.register_forward_pre_hook(_tell, with_kwargs=True) for module in stacks]):
        yield


def _tell(module: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Adds the hint that a mask need not be causal where the call gives none."""
    hint = next(name for kind, name in _HINTS.items() if isinstance(module, kind))
    signature = inspect.signature(module.forward)
    if hint not in signature.parameters:  # a class of the user's own
        return args, named
    bound = signature.bind(*args, **named)
    if bound.arguments.get(hint) is None:
        bound.arguments[hint] = False
    return bound.args, bound.kwargs
