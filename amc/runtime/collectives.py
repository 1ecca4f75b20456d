"""What processes that train one network tell each other."""

from __future__ import annotations

from typing import Any

from torch import Tensor


class Collectives:
    """Exchanges tensors between processes; this one is of a process that is alone, and returns what it is given.

    All processes call the same methods in the same order, with tensors of the same shapes.

    Attributes:
        rank: The number of this process, from 0. The first one alone writes files and reports.
        size: How many processes there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process is the first."""
        return self.rank == 0

    def average(self, tensor: Tensor) -> Tensor:
        """Returns the mean over the processes, without a gradient; the tensor given may be overwritten."""
        return tensor

    def average_with_gradient(self, tensor: Tensor) -> Tensor:
        """Returns the mean over the processes, through which gradients flow back to all of them."""
        return tensor

    def total(self, tensor: Tensor) -> Tensor:
        """Returns the sum over the processes, without a gradient; the tensor given may be overwritten."""
        return tensor

    def gathered(self, tensor: Tensor) -> Tensor:
        """Returns the tensors of all processes, `(size, ...)`, without a gradient."""
        return tensor.unsqueeze(0)

    def of_first(self, tensor: Tensor) -> Tensor:
        """Returns the tensor of the first process, without a gradient; the tensor given may be overwritten."""
        return tensor

    def value_of_first(self, value: Any) -> Any:
        """Returns a picklable value of the first process; what the others give does not matter."""
        return value


ALONE = Collectives()
"""Of a process that trains by itself."""
