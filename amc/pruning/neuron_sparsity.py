"""Sparsity by neuron: which outputs of a layer have lost all their weights, and which inputs are read no more."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd


@dataclass(frozen=True)
class NeuronSparsity:
    """What single weights that are zero leave of a layer's neurons.

    Attributes:
        layer: Its name.
        weights: How many weights it has.
        kept: How many of them are not zero.
        outputs: Its outputs: neurons, or filters.
        empty_outputs: Outputs all of whose weights are zero.
        inputs: Its inputs: neurons, or channels.
        empty_inputs: Inputs that no weight reads.
        fewest: Weights that are not zero, of the output that has the fewest.
        most: The same of the output that has the most.
    """

    layer: str
    weights: int
    kept: int
    outputs: int
    empty_outputs: int
    inputs: int
    empty_inputs: int
    fewest: int
    most: int


def neuron_sparsity(model: nn.Module) -> list[NeuronSparsity]:
    """Returns the sparsity by neuron of all convolutions and linear layers that have a weight of zero."""
    layers = ((name, module) for name, module in model.named_modules() if isinstance(module, _ConvNd | nn.Linear))
    return [
        _of(name, module) for name, module in layers if isinstance(module.weight, Tensor) and _has_zeros(module.weight)
    ]


def _has_zeros(weight: Tensor) -> bool:
    return bool((weight == 0).any())


def _of(name: str, layer: _ConvNd | nn.Linear) -> NeuronSparsity:
    stays = layer.weight.detach() != 0
    groups = layer.groups if isinstance(layer, _ConvNd) else 1
    stays = stays.reshape(groups, len(stays) // groups, stays.shape[1], -1).sum(3)  # (groups, rows, columns)
    if isinstance(layer, _ConvNd) and layer.transposed:  # whose weights have the inputs first
        stays = stays.transpose(1, 2)
    by_output, by_input = stays.sum(2).flatten(), stays.sum(1).flatten()
    return NeuronSparsity(
        layer=name,
        weights=layer.weight.numel(),
        kept=int(stays.sum()),
        outputs=len(by_output),
        empty_outputs=int((by_output == 0).sum()),
        inputs=len(by_input),
        empty_inputs=int((by_input == 0).sum()),
        fewest=int(by_output.min()),
        most=int(by_output.max()),
    )
