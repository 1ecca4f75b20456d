"""Running a network for its shapes: what takes long is skipped, and zeros stand for its outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from amc.structure.running import tensors_in

Compute = Callable[[Any, tuple[Any, ...], Mapping[str, Any]], Any]
"""Runs an operator on its positional and keyword arguments."""

HEAVY = frozenset({"convolution", "addmm", "mm", "bmm", "linear"})
"""The operators that nearly all of a forward pass is spent in."""


class ValuesNeeded(Exception):
    """A network looks at values that were not computed; run it again with all of them."""


def compute(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Runs an operator as it is."""
    return func(*args, **kwargs)


class Skipping:
    """Runs operators but for the heavy ones, which give zeros of the shape that their outputs would have."""

    def __init__(self) -> None:
        """Starts with nothing skipped."""
        self.skipped = False

    def __call__(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Runs or skips an operator.

        Raises:
            ValuesNeeded: If something was skipped and the operator's result depends on values, not on shapes alone.
        """
        if func.overloadpacket.__name__ in HEAVY:
            self.skipped = True
            on_meta = func(*_to_meta(args), **_to_meta(dict(kwargs)))
            device = tensors_in((args, kwargs))[0].device
            return tree_map_only(Tensor, lambda tensor: torch.zeros_like(tensor, device=device), on_meta)
        if self.skipped and _reads_values(func, args):
            raise ValuesNeeded(func.overloadpacket.__name__)
        return func(*args, **kwargs)


class SkippingMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Skips the heavy operators of what runs under it."""

    def __init__(self) -> None:
        """Creates the mode."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._compute = Skipping()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs or skips an operator."""
        return self._compute(func, args, kwargs or {})


def _to_meta(values: Any) -> Any:
    return tree_map_only(Tensor, lambda tensor: tensor.to("meta"), values)


def _reads_values(func: Any, args: tuple[Any, ...]) -> bool:
    """Tells whether an operator hands values to Python, or the shape of its output depends on them."""
    if torch.Tag.data_dependent_output in func.tags:
        return True
    if func.overloadpacket.__name__ == "index":  # tagged for the sake of masks; positions have a shape of their own
        return any(tensor.dtype in (torch.bool, torch.uint8) for tensor in tensors_in(args[1]))
    return torch.Tag.dynamic_output_shape in func.tags
