"""What a pruner is."""

from __future__ import annotations

from typing import Protocol

from torch import nn

from amc.registry import Registry
from amc.structure import Allocation


class Pruner(Protocol):
    """Turns an allocation into a pruned network.

    Attributes:
        kind: The kind of allocation that it takes: `"filter"` or `"weight"`.
    """

    kind: str

    def prune(self, allocation: Allocation) -> nn.Module:
        """Returns a new network, smaller or masked; the dense one is left as it is.

        Raises:
            ConfigurationError: If the allocation is of another kind or does not fit the network.
        """
        ...


PRUNERS: Registry[type[Pruner]] = Registry("pruner")
PRUNERS.register("filter", "amc.pruning.filter_pruner:FilterPruner", "removes channels: a smaller dense network")
PRUNERS.register("magnitude", "amc.pruning.magnitude_pruner:WeightPruner", "sets the smallest weights to zero")
