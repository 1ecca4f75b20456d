"""Weight pruning: the paper's fine-grained compression."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from amc.errors import ConfigurationError
from amc.pruning.criteria.base import WeightCriterion, weight_scores
from amc.pruning.criteria.evidence import Evidence
from amc.pruning.criteria.norms import Magnitude
from amc.pruning.masks import apply_masks, ranks
from amc.structure import Allocation, ModelStructure


class WeightPruner:
    """Keeps the weights that score highest in every layer, as many as an allocation says."""

    kind = "weight"

    def __init__(
        self,
        model: nn.Module,
        structure: ModelStructure,
        criterion: WeightCriterion | None = None,
        evidence: Evidence | None = None,
    ) -> None:
        """Finds the layers.

        Args:
            model: The dense network; it is not changed. Do not change its weights afterwards: they are ranked once.
            structure: Its structure.
            criterion: What scores the weights; their magnitude if None.
            evidence: What the criterion looks at; the weights alone if None.
        """
        self.model = model
        self._layers = {layer.name: layer for layer in structure.layers}
        self._criterion = criterion or Magnitude()
        self.evidence = evidence or Evidence(model, structure)
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
            if layer not in self._layers:
                raise ConfigurationError(f"the allocation names {layer!r}, which is no layer of this network")
            name = self._layers[layer].weight
            weight = parameters[name]
            if not 1 <= count <= weight.numel():
                raise ConfigurationError(f"layer {layer!r} has {weight.numel()} weights and cannot keep {count}")
            masks[name] = self._ranks_of(layer) < count
        return masks

    def _ranks_of(self, layer: str) -> Tensor:
        """Ranks the weights of a layer when they are asked for first; in memory they take as much as in float32."""
        if layer not in self._ranks:
            self._ranks[layer] = ranks(weight_scores(self._criterion, self._layers[layer], self.evidence))
        return self._ranks[layer]

    def prune(self, allocation: Allocation) -> nn.Module:
        """Returns a copy of the network with the other weights set to zero.

        Raises:
            ConfigurationError: If the allocation does not fit the network.
        """
        pruned = copy.deepcopy(self.model)
        apply_masks(pruned, self.masks(allocation))
        return pruned
