"""Forward passes in smaller batches where there is not enough memory for a whole one."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from amc.errors import ModelError
from amc.runtime.call import first_line

_WORDS = ("out of memory", "can't allocate memory", "not enough memory")
"""PyTorch's messages on CUDA and on the CPU."""


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether an error means that memory ran out."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS)


class BatchesThatFit:
    """Runs whole batches, and halves, quarters and so on once memory runs out; warns once per size."""

    def __init__(self) -> None:
        """Starts with whole batches."""
        self._most: int | None = None

    def __call__(self, run: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor:
        """Runs a batch.

        Args:
            run: Maps inputs `(n, ...)` to outputs `(n, ...)`, each by itself.
            batch: Inputs `(N, ...)`.

        Raises:
            ModelError: If there is not enough memory for one input.
        """
        while True:
            size = len(batch) if self._most is None else min(self._most, len(batch))
            try:
                return run(batch) if size == len(batch) else torch.cat([run(part) for part in torch.split(batch, size)])
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                words = first_line(error)
            self._halve(size, words)  # after the error is let go: it holds the tensors of the pass

    def _halve(self, size: int, words: str) -> None:
        if size == 1:
            raise ModelError(
                f"memory must suffice to run the network on one input, and does not: {words}; end other programs, or "
                "choose another device"
            )
        self._most = (size + 1) // 2
        if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.empty_cache()
        warnings.warn(
            f"memory does not suffice for batches of {size} ({words}); scoring continues with {self._most}",
            RuntimeWarning,
            stacklevel=4,
        )
