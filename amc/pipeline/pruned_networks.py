"""Networks that were pruned and refit lately, so that one that is compared, measured and trained is refit once."""

from __future__ import annotations

import copy
from collections.abc import Callable

from torch import nn

from amc.runtime.call import tensor_bytes
from amc.structure import Allocation
from amc.utils.progress import Progress, silent

_HELD_BYTES = 1 << 28


class PrunedNetworks:
    """Keeps pruned networks by what is kept of them, those that were asked for last.

    Attributes:
        held_bytes: Bound on their tensors together; what was not asked for the longest goes first.
    """

    def __init__(self, held_bytes: int = _HELD_BYTES) -> None:
        """Keeps nothing yet."""
        self.held_bytes = held_bytes
        self._networks: dict[frozenset[tuple[str, int]], nn.Module] = {}

    def __contains__(self, allocation: Allocation) -> bool:
        """Returns whether the network of an allocation is kept."""
        return _key(allocation) in self._networks

    def get(self, allocation: Allocation, make: Callable[[], nn.Module], advance: Progress = silent) -> nn.Module:
        """Returns a network of the caller's own, which may be changed.

        Args:
            allocation: What is kept.
            make: Prunes the network if it is not here.
            advance: Is told that all is done.
        """
        key = _key(allocation)
        known = self._networks.pop(key, None)
        made = make() if known is None else known
        advance(1.0)
        if tensor_bytes(made) > self.held_bytes:
            return made
        self._networks[key] = made
        while sum(map(tensor_bytes, self._networks.values())) > self.held_bytes:
            del self._networks[next(iter(self._networks))]
        return copy.deepcopy(made)


def _key(allocation: Allocation) -> frozenset[tuple[str, int]]:
    """Returns the widths by name: those of single rounds name some of the groups, and not always the same ones."""
    return frozenset(allocation.widths.items())
