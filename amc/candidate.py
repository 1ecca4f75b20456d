"""One network that takes the shape of one allocation after another."""

from __future__ import annotations

import copy

from torch import nn

from amc.pruning.filter_pruner import FilterPruner
from amc.structure import Allocation
from amc.structure.slicing import attribute_values, set_attributes, set_tensors


class Candidate:
    """The network that is scored in the search.

    It has the same tensors as what `FilterPruner.prune` returns, so that the score speaks of the network that is
    delivered, but an episode copies no network: tensors that differ from the last allocation's are put in place.
    """

    def __init__(self, pruner: FilterPruner) -> None:
        """Copies the dense network, once."""
        self._pruner = pruner
        self._model = copy.deepcopy(pruner.model)
        self._dense = {
            name: tensor.detach()
            for name, tensor in (*pruner.model.named_parameters(), *pruner.model.named_buffers())
        }
        self._changed: set[str] = set()

    def become(self, allocation: Allocation) -> nn.Module:
        """Returns the network that an allocation describes; it is valid until the next call.

        Raises:
            ConfigurationError: If the allocation does not fit the network.
        """
        plan = self._pruner.plan(allocation)
        restored = {name: self._dense[name] for name in self._changed - set(plan.tensors)}
        set_tensors(self._model, {**restored, **plan.tensors})
        set_attributes(self._model, attribute_values(self._pruner.structure, plan.widths))
        self._changed = set(plan.tensors)
        return self._model.eval()
