"""Criteria that look at the weights alone, or at nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

import torch
from torch import Tensor

from amc.pruning.criteria.evidence import Evidence, Needs
from amc.structure import ChannelGroup, LayerSpec


class L1Norm:
    """Sum of the absolute weights of the filters that write a channel.

    Li et al., *Pruning Filters for Efficient ConvNets* (arXiv:1608.08710), section 3.1: `s_j = sum |F_j|`. Where
    several layers write the channels, their filters count together. Biases and the layers that read the channels do not
    count.
    """

    needs: ClassVar[Needs] = frozenset()

    def __call__(self, group: ChannelGroup, evidence: Evidence) -> Tensor:
        """Scores the channels of a group, `(C,)`."""
        return writer_norms(group, evidence.tensors, 1)


class L2Norm:
    """Euclidean norm of the filters that write a channel; otherwise as `L1Norm`."""

    needs: ClassVar[Needs] = frozenset()

    def __call__(self, group: ChannelGroup, evidence: Evidence) -> Tensor:
        """Scores the channels of a group, `(C,)`."""
        return writer_norms(group, evidence.tensors, 2)


class RandomChannels:
    """Random scores, drawn by the seed and by the group: the control that a criterion has to beat."""

    needs: ClassVar[Needs] = frozenset()

    def __call__(self, group: ChannelGroup, evidence: Evidence) -> Tensor:
        """Scores the channels of a group, `(C,)`."""
        return torch.rand(group.channels, generator=evidence.generator(group.name), dtype=torch.float64)


class Magnitude:
    """Absolute value of each weight.

    Han et al., *Learning both Weights and Connections* (arXiv:1506.02626), section 3; AMC's fine-grained pruning.
    """

    needs: ClassVar[Needs] = frozenset()

    def __call__(self, layer: LayerSpec, evidence: Evidence) -> Tensor:
        """Scores the weights of a layer, in the weight's shape."""
        return evidence.tensors[layer.weight].abs()


class RandomWeights:
    """Random scores, drawn by the seed and by the layer (with good layer-wise ratios a strong control: 2202.02643)."""

    needs: ClassVar[Needs] = frozenset()

    def __call__(self, layer: LayerSpec, evidence: Evidence) -> Tensor:
        """Scores the weights of a layer, in the weight's shape."""
        weight = evidence.tensors[layer.weight]
        drawn = torch.rand(weight.shape, generator=evidence.generator(layer.name), dtype=torch.float64)
        return drawn.to(weight.device)


def filters(group: ChannelGroup, tensors: Mapping[str, Tensor]) -> Iterator[Tensor]:
    """Yields the filters of each layer that writes a group's channels.

    Args:
        group: The group.
        tensors: The dense network's parameters and buffers by name.

    Yields:
        For each writer the weights that go with a channel, `(C, n)`, in float64 on the CPU; biases are left out.
    """
    for cut in group.cuts:
        tensor = tensors[cut.tensor]
        if cut.role == "write" and tensor.dim() > 1:
            rows = tensor.detach().double().movedim(cut.axis, 0).flatten(1).cpu()
            yield rows[torch.tensor(cut.positions)].flatten(1)


def writer_norms(group: ChannelGroup, tensors: Mapping[str, Tensor], order: float) -> Tensor:
    """Returns the norm of the filters that write each channel, over all writers together, `(C,)` in float64.

    Args:
        group: The group.
        tensors: The dense network's parameters and buffers by name.
        order: 1 for the sum of absolute values, 2 for the Euclidean norm.
    """
    powers = torch.zeros(group.channels, dtype=torch.float64)
    for rows in filters(group, tensors):
        powers += rows.abs().pow(order).sum(1)
    return powers.pow(1 / order)
