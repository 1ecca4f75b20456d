"""Criteria: which channels of a group go first.

A criterion ranks the channels of a group once; the channels kept at any width are the last ones of that ranking, so
the kept sets of different widths are nested.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from amc.structure import ChannelGroup
from amc.utils.registry import Registry


class Criterion(Protocol):
    """Ranks the channels of one group."""

    def __call__(self, group: ChannelGroup, tensors: Mapping[str, Tensor], seed: int) -> Tensor | None:
        """Returns the channels in the order in which they go, least important first.

        Args:
            group: The group.
            tensors: The dense network's parameters and buffers by name.
            seed: Seed for criteria that draw.

        Returns:
            Channel indices, int64, shape `(C,)`; None leaves the order to the elimination on the readers' normal
            equations.
        """
        ...


CRITERIA: Registry[Criterion] = Registry("criterion")


def writer_norms(group: ChannelGroup, tensors: Mapping[str, Tensor], order: float) -> Tensor:
    """Returns the norm of the filters that write each channel, over all writers together, shape `(C,)`.

    Args:
        group: The group.
        tensors: The dense network's parameters and buffers by name.
        order: 1 for the sum of absolute values, 2 for the Euclidean norm.
    """
    powers = torch.zeros(group.channels, dtype=torch.float64)
    for cut in group.cuts:
        tensor = tensors[cut.tensor]
        if cut.role != "write" or tensor.dim() < 2:  # biases do not count: the criterion is on filters
            continue
        powers += (
            tensor.detach()
            .double()
            .abs()
            .pow(order)
            .movedim(cut.axis, 0)
            .flatten(1)
            .sum(1)
            .cpu()[torch.tensor(cut.positions)]
            .sum(1)
        )
    return powers.pow(1 / order)


def _by_norm(order: float) -> Criterion:
    """Makes the criterion that removes the filters of smallest norm first; ties go by channel index."""

    def rank(group: ChannelGroup, tensors: Mapping[str, Tensor], seed: int) -> Tensor:
        return writer_norms(group, tensors, order).argsort(stable=True)

    return rank


def _at_random(group: ChannelGroup, tensors: Mapping[str, Tensor], seed: int) -> Tensor:
    """Ranks the channels at random, differently for each group: the control that a criterion has to beat."""
    digest = sum((place + 1) * ord(letter) for place, letter in enumerate(group.name))
    generator = torch.Generator().manual_seed(seed * 1_000_003 + digest)
    return torch.randperm(group.channels, generator=generator)


def _by_elimination(group: ChannelGroup, tensors: Mapping[str, Tensor], seed: int) -> None:
    """Leaves the order to `amc.pruning.regression.elimination.eliminate`."""


CRITERIA.register("elimination", _by_elimination, "greedy backward elimination on the readers' normal equations")
CRITERIA.register("l1", _by_norm(1), "sum of the absolute weights of the filters (the paper's)")
CRITERIA.register("l2", _by_norm(2), "Euclidean norm of the filters")
CRITERIA.register("random", _at_random, "random order, as a control")
