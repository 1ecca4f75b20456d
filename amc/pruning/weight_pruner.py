"""Weight pruning: the paper's fine-grained compression."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from amc.errors import ConfigurationError
from amc.pruning.masks import apply_masks, magnitude_ranks
from amc.structure import Allocation, ModelStructure


class WeightPruner:
    """Keeps the weights of largest magnitude in every layer, as many as an allocation says."""

    kind = "weight"

    def __init__(self, model: nn.Module, structure: ModelStructure) -> None:
        """Finds the layers' weights.

        Args:
            model: The dense network; it is not changed. Do not change its weights afterwards: they are sorted once.
            structure: Its structure.
        """
        self.model = model
        self._weights = {layer.name: layer.weight for layer in structure.layers}
        self._ranks: dict[str, Tensor] = {}

    def masks(self, allocation: Allocation) -> dict[str, Tensor]:
        """Returns which weights stay, by parameter name; layers that the allocation does not name stay dense.

        Raises:
            ConfigurationError: If the allocation is of another kind, names an unknown layer, or keeps more weights than
                there are.
        """
        if allocation.kind != self.kind:
            raise ConfigurationError(f"a weight pruner takes allocations of kind 'weight', not {allocation.kind!r}")
        parameters = dict(self.model.named_parameters())
        masks = {}
        for layer, count in allocation.widths.items():
            if layer not in self._weights:
                raise ConfigurationError(f"the allocation names {layer!r}, which is no layer of this network")
            weight = parameters[self._weights[layer]]
            if not 1 <= count <= weight.numel():
                raise ConfigurationError(f"layer {layer!r} has {weight.numel()} weights and cannot keep {count}")
            masks[self._weights[layer]] = self._ranks_of(layer, weight) < count
        return masks

    def _ranks_of(self, layer: str, weight: Tensor) -> Tensor:
        """Sorts the weights of a layer when they are asked for first; in memory they take as much as in float32."""
        if layer not in self._ranks:
            self._ranks[layer] = magnitude_ranks(weight)
        return self._ranks[layer]

    def prune(self, allocation: Allocation) -> nn.Module:
        """Returns a copy of the network with the other weights set to zero.

        Raises:
            ConfigurationError: If the allocation does not fit the network.
        """
        pruned = copy.deepcopy(self.model)
        apply_masks(pruned, self.masks(allocation))
        return pruned
