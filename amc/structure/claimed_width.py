"""Modules that derive the width of their heads from the shape of their input: `B, N, C = x.shape`, `C // heads`.

Once heads are cut, all heads together are narrower than the stream. A module whose width is claimed runs its own code
unchanged, and gets the claimed width where it asks for the length of the last axis of one of its arguments.
"""

from __future__ import annotations

import functools
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from amc.runtime.call import tensors_in

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


def claim_width(module: nn.Module, width: int) -> None:
    """Gives a module a claimed width, in place; its class becomes a twin that knows it."""
    if not claims_width(module):
        module.__class__ = _claiming(type(module))
    setattr(module, CLAIMED, width)


def release_width(module: nn.Module) -> None:
    """Removes the claimed width from a module that has one, which restores it."""
    module.__class__ = type(module).__bases__[0]
    delattr(module, CLAIMED)


def claims_width(module: nn.Module) -> bool:
    """Returns whether a module has a claimed width."""
    return CLAIMED in vars(module)


_TWINS: dict[type[nn.Module], type[nn.Module]] = {}


def _claiming(base: type[nn.Module]) -> type[nn.Module]:
    """Returns the twin of a class, of the same name, whose forward method sees the claimed width."""
    if base in _TWINS:
        return _TWINS[base]
    forward = base.forward

    @functools.wraps(forward)
    def claimed(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        with _Claims((args, kwargs), getattr(self, CLAIMED)):
            return forward(self, *args, **kwargs)

    def reduced(self: nn.Module, protocol: Any) -> Any:
        return _empty, (base,), vars(self)

    members = {"forward": claimed, "__reduce_ex__": reduced, "__module__": base.__module__}
    _TWINS[base] = type(base.__name__, (base,), members)
    return _TWINS[base]


def _empty(base: type[nn.Module]) -> nn.Module:
    """Makes a module of a twin's class without calling its constructor: for copies and pickles."""
    twin = _claiming(base)
    return twin.__new__(twin)
