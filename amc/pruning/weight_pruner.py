"""Weight pruning: the paper's fine-grained compression."""

from __future__ import annotations

import copy
from math import prod

from torch import Tensor, nn

from amc.errors import ConfigurationError
from amc.pruning.plan import PrunePlan
from amc.pruning.regression.row_equations import intercept_sink
from amc.pruning.weight_tables import LayerTable, WeightTable
from amc.runtime.call import tensor_of
from amc.structure import Allocation, ModelStructure
from amc.structure.slicing import set_tensors


class WeightPruner:
    """Keeps the weights that rank highest in every layer, as many as an allocation says, with their refitted values.

    The same plan serves the candidate of the search and the network that the sequential refit starts from.

    Example:
        >>> import torch
        >>> from amc.pruning import CRITERIA, Evidence, build_weight_tables
        >>> from amc.tracing.trace import trace_structure
        >>> from amc.utils.options import create
        >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
        >>> images = torch.rand(16, 3, 8, 8)
        >>> structure = trace_structure(network, images[:1])
        >>> evidence = Evidence(network, structure, [images])
        >>> criterion = create(CRITERIA["weight"], "magnitude")
        >>> pruner = WeightPruner(network, structure, build_weight_tables(network, structure, criterion, evidence))
        >>> int((pruner.prune(Allocation("weight", {"0": 50}))[0].weight != 0).sum())
        50
    """

    kind = "weight"

    def __init__(self, model: nn.Module, structure: ModelStructure, table: WeightTable) -> None:
        """Prepares the look-ups.

        Args:
            model: The dense network; it is not changed.
            structure: Its structure.
            table: Ranks and refitted values, from `amc.pruning.weight_tables.build_weight_tables`.
        """
        self.model, self.structure, self.table = model, structure, table
        self._layers = {layer.name: layer for layer in structure.layers}

    def masks(self, allocation: Allocation) -> dict[str, Tensor]:
        """Returns which weights stay, by the layer's name; layers that the allocation does not name stay dense.

        Raises:
            ConfigurationError: If the allocation is of another kind, names an unknown layer, keeps more weights than
                there are, or prunes a layer without a table.
        """
        return {name: table.ranks < count for name, table, count in self._found(allocation)}

    def plan(self, allocation: Allocation) -> PrunePlan:
        """Looks up the weights of the layers that lose some, and what takes their intercepts.

        Raises:
            ConfigurationError: If the allocation does not fit the network.
        """
        tensors: dict[str, Tensor] = {}
        for name, table, count in self._found(allocation):
            layer = self._layers[name]
            tensors[layer.weight], intercept = table.lookup(count)
            sink = intercept_sink(self.model, layer.name, layer.batch_norm)
            if intercept is not None and sink is not None:
                sign, tensor = sink
                tensors[tensor] = tensor_of(self.model, tensor) + sign * intercept
        return PrunePlan({}, self.structure.dense_widths, tensors)

    def prune(self, allocation: Allocation) -> nn.Module:
        """Returns a copy of the network with the other weights set to zero.

        Raises:
            ConfigurationError: If the allocation does not fit the network.
        """
        pruned = copy.deepcopy(self.model)
        set_tensors(pruned, {name: tensor.clone() for name, tensor in self.plan(allocation).tensors.items()})
        return pruned

    def _found(self, allocation: Allocation) -> list[tuple[str, LayerTable, int]]:
        """Returns the layers that lose weights, with their tables and counts."""
        if allocation.kind != self.kind:
            raise ConfigurationError(f"a weight pruner takes allocations of kind 'weight', not {allocation.kind!r}")
        found = []
        for name, count in allocation.widths.items():
            if name not in self._layers:
                raise ConfigurationError(f"the allocation names {name!r}, which is not a layer of this network")
            weights = prod(self._layers[name].weight_shape)
            if not 1 <= count <= weights:
                raise ConfigurationError(f"layer {name!r} has {weights} weights and cannot keep {count}")
            if count < weights:
                found.append((name, self._table(name), count))
        return found

    def _table(self, name: str) -> LayerTable:
        if name not in self.table.layers:
            raise ConfigurationError(
                f"layer {name!r} stays dense under these rules, and the allocation prunes it; "
                "exclude no such layer (pruning.exclude), or allocate again"
            )
        return self.table.layers[name]
