"""FLOPs as a metric."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from torch import nn

from amc.costs.cost_model import CostModel
from amc.costs.counting import count_flops
from amc.costs.polynomial_cost import channel_cost, weight_cost
from amc.structure import LayerSpec, ModelStructure


class Flops:
    """FLOPs for one example input, as fvcore counts them: one fused multiply-add is one.

    In weight pruning a weight costs what it is multiplied with (the output positions of a convolution), and a zero
    costs nothing.
    """

    name = "flops"
    noun = "FLOPs"

    def of_channels(self, structure: ModelStructure, groups: Sequence[int]) -> CostModel:
        """Returns the FLOPs by kept channels; see `Metric`."""
        return channel_cost(self.name, structure.flops_terms, structure, groups)

    def of_weights(self, structure: ModelStructure, layers: Sequence[int]) -> CostModel:
        """Returns the effective FLOPs by kept weights; see `Metric`."""
        unit_costs = [_flops_per_weight(structure.layers[index]) for index in layers]
        return weight_cost(self.name, structure.dense_flops, structure, layers, unit_costs)

    def count(self, model: nn.Module, example_input: Any) -> int:
        """Counts the FLOPs of a network with fvcore."""
        return count_flops(model, example_input)


def _flops_per_weight(layer: LayerSpec) -> int:
    """Returns how often one forward pass multiplies each weight: in a convolution, once an output position."""
    per_weight, remainder = divmod(layer.flops, prod(layer.weight_shape))
    assert remainder == 0, f"{layer.name}: every weight must be used equally often"
    return per_weight


FLOPS = Flops()
