"""Weights that a network multiplies with itself, and no layer for it: the projections of attention, bare parameters.

Hooks on modules do not see what such a weight reads. Watching the operators of a forward pass does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from amc.runtime.call import without_fused_attention
from amc.structure import LayerSpec

_OPERANDS: Mapping[Any, tuple[int, int, bool]] = {
    torch.ops.aten.mm.default: (0, 1, True),
    torch.ops.aten.addmm.default: (1, 2, True),
    torch.ops.aten.linear.default: (0, 1, False),
}
"""Products: the place of what is multiplied, that of the weight, and whether the weight is transposed."""


def is_bare(model: nn.Module, layer: LayerSpec) -> bool:
    """Returns whether a layer is one product of its input with a whole weight of which no module is in charge.

    `nn.MultiheadAttention` has a linear layer for its output, and does not call it. Kinds of linear layers that compute
    otherwise may use their bias otherwise, too.
    """
    if len(layer.weight_shape) != 2 or layer.calls != 1:
        return False
    owner_name = layer.weight.rpartition(".")[0]
    owner = model.get_submodule(owner_name)
    if isinstance(owner, nn.Linear):
        return isinstance(model.get_submodule(owner_name.rpartition(".")[0]), nn.MultiheadAttention)
    return not isinstance(owner, nn.Embedding)


class BareWeights(TorchDispatchMode):  # type: ignore[no-untyped-call, unused-ignore]
    """Reports what some weights are multiplied with."""

    def __init__(self, weights: Mapping[str, Tensor], report: Callable[[str, Tensor], None]) -> None:
        """Reports `report(name, rows)` at each product.

        Args:
            weights: The weights `(O, d)` by name; products with a part of one are passed over.
            report: Takes the name, and what the weight is multiplied with, `(..., d)`.
        """
        super().__init__()  # type: ignore[no-untyped-call, unused-ignore]
        self._names = {(weight.data_ptr(), tuple(weight.shape)): name for name, weight in weights.items()}
        self._report = report

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watches forward passes."""
        with without_fused_attention(), self:
            yield

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs an operator, and reports it if it is a product with one of the weights."""
        if func in _OPERANDS:
            read, at, is_transposed = _OPERANDS[func]
            weight = args[at].t() if is_transposed else args[at]
            name = self._names.get((weight.data_ptr(), tuple(weight.shape))) if weight.is_contiguous() else None
            if name is not None:
                self._report(name, args[read])
        return func(*args, **(kwargs or {}))
