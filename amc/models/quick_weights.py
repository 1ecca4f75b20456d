"""Fast random weights, for networks of which only the structure matters."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_BLOCK = 250_007
"""Random numbers drawn for a large tensor. A prime, so that rows and columns do not line up with the repetition."""


class QuickWeights(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Fills large tensors by repeating one block of random numbers.

    PyTorch draws random numbers on one core: 5 seconds for the weights of ViT-H/14, and again where a network sets
    them twice. Weights that repeat are useless to train from, but their shapes and scales are the same.
    """

    def __init__(self) -> None:
        """Creates the mode."""
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs an operator; `normal_` and `uniform_` of a large tensor draw one block."""
        name = func.overloadpacket.__name__
        if name in ("normal_", "uniform_") and args[0].numel() > 2 * _BLOCK and args[0].is_contiguous():
            block = args[0].new_empty(_BLOCK)
            func(block, *args[1:], **(kwargs or {}))
            return _repeat(block, args[0])
        return func(*args, **(kwargs or {}))


def _repeat(block: Tensor, tensor: Tensor) -> Tensor:
    """Fills a tensor with repetitions of a block."""
    flat = tensor.view(-1)
    whole = flat.numel() // len(block) * len(block)
    flat[:whole].view(-1, len(block)).copy_(block)
    flat[whole:].copy_(block[: flat.numel() - whole])
    return tensor
