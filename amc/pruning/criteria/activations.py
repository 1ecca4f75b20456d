"""Criteria that look at the inputs of layers."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from amc.errors import ConfigurationError
from amc.pruning.criteria.evidence import ACTIVATIONS, Evidence, Needs
from amc.structure import ChannelGroup, LayerSpec


class ActiveShare:
    """Share of a channel's activations that are not zero.

    Hu et al., *Network Trimming* (arXiv:1607.03250), Eq. 1: the average percentage of zeros (APoZ) after the ReLU over
    all images and positions; here `1 - APoZ`, so that more zeros go first. Deviations: counted where the channels are
    read, so behind a pooling that lies between, and averaged over all layers that read them; the budget decides how
    many channels go, not a threshold of one standard deviation above a layer's mean.
    """

    needs: ClassVar[Needs] = frozenset({ACTIVATIONS})

    def __call__(self, group: ChannelGroup, evidence: Evidence) -> Tensor:
        """Scores the channels of a group, `(C,)`.

        Raises:
            ConfigurationError: If no activation of the group is ever zero, or none is seen.
        """
        shares = []
        for cut in group.cuts:
            layer, _, attribute = cut.tensor.rpartition(".")
            found = evidence.inputs(layer) if cut.role == "read" and attribute == "weight" else None
            if found is not None and cut.axis == 1:
                shares.append(found.zeros.mean(0)[torch.tensor(cut.positions)].mean(1))
        zeros = torch.stack(shares).mean(0) if shares else torch.zeros(group.channels)
        if not zeros.any():
            raise ConfigurationError(
                f"the criterion 'apoz' counts zero activations, but those of {group.name!r} hold none: it takes a "
                "ReLU ahead of what reads them; choose another criterion, such as 'taylor', or exclude the layer"
            )
        return 1 - zeros


class Wanda:
    """Weight times the norm of its input.

    Sun et al., *A Simple and Effective Pruning Approach for Large Language Models* (arXiv:2306.11695), Eq. 1:
    `|W_ij| * ||X_j||_2`, compared among the weights of one output. For a convolution the norm is that of the input
    channel over all positions of its maps, an extension of ours; outputs of a grouped convolution go by the channels of
    their own group.
    """

    needs: ClassVar[Needs] = frozenset({ACTIVATIONS})

    def __init__(self, by_output: bool = True) -> None:
        """Chooses what is compared.

        Args:
            by_output: Every output keeps the same share of its weights, as in the paper; otherwise the scores of a
                whole layer are compared.
        """
        self._by_output = by_output

    def __call__(self, layer: LayerSpec, evidence: Evidence) -> Tensor:
        """Scores the weights of a layer, in the weight's shape.

        With `by_output`, a score is the place among the weights of its output; ties are broken by the
        product, so that any count over the layer is as even as can be. The weights of a layer that is not run as a
        convolution or a linear layer go by their magnitude.
        """
        found = evidence.inputs(layer.name)
        if found is None:
            return evidence.tensors[layer.weight].abs()
        weight = evidence.tensors[layer.weight].double()
        norms = found.squares.sqrt().to(weight.device).repeat_interleave(len(weight) // len(found.squares), 0)
        product = weight.abs() * norms.reshape(*weight.shape[:2], *[1] * (weight.dim() - 2))
        if not self._by_output:
            return product
        places = product.flatten(1).argsort(dim=1, stable=True).argsort(dim=1).reshape(product.shape)
        largest = product.max().clamp_min(torch.finfo(torch.float64).tiny)
        scores: Tensor = places + 0.5 * product / largest
        return scores
