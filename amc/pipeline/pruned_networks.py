"""Networks that were pruned and refit lately, so that one that is compared, measured and trained is refit once."""

from __future__ import annotations

import copy
from collections.abc import Callable

from torch import nn

from amc.runtime.call import named_tensors

_HELD_BYTES = 1 << 28


class PrunedNetworks:
    """Keeps pruned networks by what is kept of them, those that were asked for last.

    Attributes:
        held_bytes: Bound on their tensors together; what was not asked for the longest goes first.
    """

    def __init__(self, held_bytes: int = _HELD_BYTES) -> None:
        """Keeps nothing yet."""
        self.held_bytes = held_bytes
        self._networks: dict[tuple[int, ...], nn.Module] = {}

    def __contains__(self, key: tuple[int, ...]) -> bool:
        """Returns whether the network of `Allocation.key()` is kept."""
        return key in self._networks

    def get(self, key: tuple[int, ...], make: Callable[[], nn.Module]) -> nn.Module:
        """Returns a network of the caller's own, which may be changed.

        Args:
            key: What is kept, as `Allocation.key` returns it.
            make: Prunes the network if it is not here.
        """
        known = self._networks.pop(key, None)
        made = make() if known is None else known
        if _bytes(made) > self.held_bytes:
            return made
        self._networks[key] = made
        while sum(map(_bytes, self._networks.values())) > self.held_bytes:
            del self._networks[next(iter(self._networks))]
        return copy.deepcopy(made)


def _bytes(network: nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in named_tensors(network).values())
