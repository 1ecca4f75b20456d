"""Modules that derive the width of their heads from the shape of their input: `B, N, C = x.shape`, `C // heads`.

Once heads are cut, all heads together are narrower than the stream. A module whose width is claimed runs its own code
unchanged, and gets the claimed width where it asks for the length of the last axis of one of its arguments.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from amc.runtime.call import tensors_in
from amc.structure.twin_classes import Change, change_class, derived_class, restore_class

CLAIMED = "claimed_width"
"""Attribute in which a module holds its claimed width."""

_SHAPE, _SIZE = Tensor.shape.__get__, Tensor.size  # type: ignore[attr-defined]


class _Claims(TorchFunctionMode):
    """Answers with the claimed width where the last axis of a module's arguments is asked for."""

    def __init__(self, arguments: Any, width: int) -> None:
        super().__init__()
        self._arguments = {id(tensor) for tensor in tensors_in(arguments)}
        self._width = width

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func not in (_SHAPE, _SIZE) or id(args[0]) not in self._arguments:
            return result
        if isinstance(result, tuple):
            return (*result[:-1], self._width) if result else result
        axis = args[1] if len(args) > 1 else (kwargs or {})["dim"]
        return self._width if axis in (-1, args[0].dim() - 1) else result


@dataclass(frozen=True)
class _Claiming(Change):
    """A forward method that sees the claimed width."""

    order: ClassVar[int] = 1

    def applied(self, base: type[nn.Module]) -> type[nn.Module]:
        """Returns the class whose forward method sees the claimed width."""
        forward = base.forward

        @functools.wraps(forward)
        def claimed(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
            with _Claims((args, kwargs), getattr(self, CLAIMED)):
                return forward(self, *args, **kwargs)

        return derived_class(base, (), {"forward": claimed})


def claim_width(module: nn.Module, width: int) -> None:
    """Gives a module a claimed width, in place; its class becomes a twin that knows it."""
    if not claims_width(module):
        change_class(module, _Claiming())
    setattr(module, CLAIMED, width)


def release_width(module: nn.Module) -> None:
    """Removes the claimed width from a module that has one, which restores it."""
    restore_class(module, _Claiming)
    delattr(module, CLAIMED)


def claims_width(module: nn.Module) -> bool:
    """Returns whether a module has a claimed width."""
    return CLAIMED in vars(module)
