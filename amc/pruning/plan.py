"""The tensors that a pruner derives from an allocation, for search candidates and for the delivered network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor, nn

from amc.structure import Allocation, ModelStructure


@dataclass(frozen=True)
class PrunePlan:
    """The tensors of one candidate network.

    Attributes:
        kept: Kept channels of every group that is cut, by its index in `ModelStructure.groups`.
        widths: Width of every group, prunable or not.
        tensors: Every parameter and buffer that differs from the dense network's, sliced or masked and refit, by name.
        dropped: The modules of dropped blocks, by name; see `amc.structure.residual_blocks.ResidualBlock.modules`.
    """

    kept: Mapping[int, Tensor]
    widths: tuple[int, ...]
    tensors: Mapping[str, Tensor]
    dropped: Mapping[str, int] = field(default_factory=dict)


class Pruner(Protocol):
    """Turns allocations into tensors."""

    @property
    def kind(self) -> str:
        """The kind of its allocations: `"filter"` or `"weight"`."""

    @property
    def model(self) -> nn.Module:
        """The dense network."""

    @property
    def structure(self) -> ModelStructure:
        """Its structure."""

    def plan(self, allocation: Allocation) -> PrunePlan:
        """Looks up the tensors that an allocation changes.

        Raises:
            ConfigurationError: If the allocation does not fit the network.
        """

    def prune(self, allocation: Allocation) -> nn.Module:
        """Returns the pruned network as a new module.

        Raises:
            ConfigurationError: If the allocation does not fit the network.
        """
