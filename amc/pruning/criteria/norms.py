"""Criteria that look at the weights alone, or at nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

import torch
from torch import Tensor

from amc.errors import ConfigurationError
from amc.pruning.batch_norm import BATCH_NORMS
from amc.pruning.criteria.evidence import Evidence, Needs
from amc.pruning.criteria.slices import channel_slices
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
    """Euclidean norm of the filters that write a channel; otherwise as `L1Norm` (arXiv:1608.08710)."""

    needs: ClassVar[Needs] = frozenset()

    def __call__(self, group: ChannelGroup, evidence: Evidence) -> Tensor:
        """Scores the channels of a group, `(C,)`."""
        return writer_norms(group, evidence.tensors, 2)


class GeometricMedian:
    """Sum of the distances to the other filters: those nearest the geometric median can be replaced by the others.

    He et al., *Filter Pruning via Geometric Median* (FPGM, arXiv:1811.00250), Eq. 4: `sum_i ||F_j - F_i||_2`. Where
    several layers write the channels, the distance is that of their filters side by side. Deviation: scored once, where
    the paper zeroes the filters in every epoch of a training that lets them grow again.
    """

    needs: ClassVar[Needs] = frozenset()

    def __call__(self, group: ChannelGroup, evidence: Evidence) -> Tensor:
        """Scores the channels of a group, `(C,)`."""
        rows = torch.cat([torch.zeros(group.channels, 1, dtype=torch.float64), *filters(group, evidence.tensors)], 1)
        # Not by matrix products, which lose half of the digits of a short distance.
        return torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist").sum(1)


class BatchNormScale:
    """Absolute scale of the batch norms behind the layers that write a channel.

    Liu et al., *Network Slimming* (arXiv:1708.06519), section 3: `|gamma|`. Where several batch norms scale the
    channels, their scales are added. The paper trains with an L1 penalty on the scales first; without one the scales
    say less.
    """

    needs: ClassVar[Needs] = frozenset()

    def __call__(self, group: ChannelGroup, evidence: Evidence) -> Tensor:
        """Scores the channels of a group, `(C,)`.

        Raises:
            ConfigurationError: If no batch norm with a scale follows the channels.
        """
        scales = []
        for cut in group.cuts:
            module, _, attribute = cut.tensor.rpartition(".")
            if attribute == "weight" and isinstance(evidence.model.get_submodule(module), BATCH_NORMS):
                scales.append(channel_slices(evidence.tensors[cut.tensor], cut).abs().sum(1))
        if not scales:
            raise ConfigurationError(
                f"the criterion 'bn_scale' needs batch norms, but none scales the channels of {group.name!r}; choose "
                "another criterion, such as 'l1', or exclude the layer"
            )
        return torch.stack(scales).sum(0)


class Gates:
    """Size of what scales a channel last: zero where a penalty has closed it.

    The absolute scale and shift of the batch norms behind the layers that write the channel; where there is none, the
    absolute weights and biases of its filters. The penalties `l0` (Louizos 2018, arXiv:1712.01312), `sss`
    (arXiv:1707.01213) and `autopruner` (arXiv:1805.08941) fold their gates in there.
    """

    needs: ClassVar[Needs] = frozenset()

    def __call__(self, group: ChannelGroup, evidence: Evidence) -> Tensor:
        """Scores the channels of a group, `(C,)`."""
        norms = torch.zeros(group.channels, dtype=torch.float64)
        writers, has_norm = norms.clone(), False
        for cut in group.cuts:
            module, _, attribute = cut.tensor.rpartition(".")
            if attribute in ("weight", "bias") and isinstance(evidence.model.get_submodule(module), BATCH_NORMS):
                norms += channel_slices(evidence.tensors[cut.tensor], cut).abs().sum(1)
                has_norm = True
            elif cut.role != "read":
                writers += channel_slices(evidence.tensors[cut.tensor], cut).abs().sum(1)
        return norms if has_norm else writers


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
            yield channel_slices(tensor, cut)


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
