"""Parameters as a metric."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from amc.costs.cost_model import CostModel
from amc.costs.counting import count_params
from amc.costs.polynomial_cost import channel_cost, weight_cost
from amc.structure import ModelStructure


class Params:
    """Parameters; in weight pruning those that are not zero, biases and normalisation counted in full.

    Matrices that are buffers are no parameters, and their weights cost none.
    """

    name = "params"
    noun = "parameters"

    def of_channels(self, structure: ModelStructure, groups: Sequence[int]) -> CostModel:
        """Returns the parameters by kept channels; see `Metric`."""
        return channel_cost(self.name, structure.params_terms, structure, groups)

    def of_weights(self, structure: ModelStructure, layers: Sequence[int]) -> CostModel:
        """Returns the parameters that are not zero by kept weights; see `Metric`."""
        unit_costs = [int(structure.layers[index].is_parameter) for index in layers]
        return weight_cost(self.name, structure.dense_params, structure, layers, unit_costs)

    def count(self, model: nn.Module, example_input: Any) -> int:
        """Counts the parameters of a network."""
        return count_params(model)


PARAMS = Params()
