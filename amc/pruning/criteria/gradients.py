"""Criteria that look at the gradients of the loss: they need the calibration images' labels."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from amc.pruning.criteria.evidence import GRADIENTS, Evidence, Needs
from amc.pruning.criteria.slices import channel_slices
from amc.structure import ChannelGroup, LayerSpec


class TaylorChannels:
    """First-order Taylor expansion of the loss in a gate on each channel.

    Molchanov et al., *Importance Estimation for Neural Network Pruning* (arXiv:1906.10771), Eq. 8 with gates:
    `(dL/dz)^2`, squared for each minibatch and averaged over the minibatches. One gate scales a channel wherever it is
    read; behind a batch norm and a ReLU this is the paper's gate after the batch norm, at any other place the one whose
    closing removes the channel. Deviations: gathered on the trained network at once, where the paper removes a few
    channels, trains, and takes a moving average.
    """

    needs: ClassVar[Needs] = frozenset({GRADIENTS})

    def __init__(self, absolute: bool = False) -> None:
        """Chooses the power.

        Args:
            absolute: Take the absolute value of each minibatch's gradient in place of its square, as HALP
                (arXiv:2110.10811) does.
        """
        self._absolute = absolute

    def __call__(self, group: ChannelGroup, evidence: Evidence) -> Tensor:
        """Scores the channels of a group, `(C,)`."""
        gates = evidence.gradients.gates[group.name]
        return (gates.abs() if self._absolute else gates.square()).mean(0)


class SnipChannels:
    """Connection sensitivity, summed over all weights that go with a channel.

    Lee et al., *SNIP* (arXiv:1810.02340), Eq. 4: `|w * dL/dw|`. The sum over a channel is a convention, not the
    paper's: it takes every parameter that the group cuts, in the layers that write the channel, in those that read it
    and in what lies between. Deviations: on the trained network, not at initialisation; all calibration images are one
    batch; scores are not divided by their sum over the network, which changes no order.
    """

    needs: ClassVar[Needs] = frozenset({GRADIENTS})

    def __call__(self, group: ChannelGroup, evidence: Evidence) -> Tensor:
        """Scores the channels of a group, `(C,)`."""
        mean = evidence.gradients.mean
        total = torch.zeros(group.channels, dtype=torch.float64)
        for cut in group.cuts:
            if cut.tensor in mean:
                total += channel_slices(evidence.tensors[cut.tensor] * mean[cut.tensor], cut).abs().sum(1)
        return total


class SnipWeights:
    """Connection sensitivity of each weight.

    Lee et al., *SNIP* (arXiv:1810.02340), Eq. 4: `|w * dL/dw|`. Deviations: on the trained network, not at
    initialisation; all calibration images are one batch; not divided by the sum over the network.
    """

    needs: ClassVar[Needs] = frozenset({GRADIENTS})

    def __call__(self, layer: LayerSpec, evidence: Evidence) -> Tensor:
        """Scores the weights of a layer, in the weight's shape."""
        return (evidence.tensors[layer.weight] * evidence.gradients.mean[layer.weight]).abs()


class TaylorWeights:
    """First-order Taylor expansion of the loss in each weight.

    Molchanov et al. (arXiv:1906.10771), Eq. 8: `(w * dL/dw)^2`, the gradient that of a minibatch's mean loss, squared
    for each minibatch and averaged over the minibatches.
    """

    needs: ClassVar[Needs] = frozenset({GRADIENTS})

    def __call__(self, layer: LayerSpec, evidence: Evidence) -> Tensor:
        """Scores the weights of a layer, in the weight's shape."""
        return evidence.tensors[layer.weight].square() * evidence.gradients.squares[layer.weight]
