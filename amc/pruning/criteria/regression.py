"""Criteria that look at the normal equations of the layers that read a group."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from amc.pruning.criteria.evidence import GRAMS, Evidence, Needs
from amc.pruning.criteria.norms import writer_norms
from amc.structure import ChannelGroup


class GreedyElimination:
    """Greedy backward elimination: always the channel whose removal, all others refit, changes the readers least.

    See `amc.pruning.regression.elimination`. A channel's score is its place in the order in which the channels go. A
    group whose readers are not run as modules (fused attention) has no normal equations and goes by the Euclidean norm.
    """

    needs: ClassVar[Needs] = frozenset({GRAMS})

    def __call__(self, group: ChannelGroup, evidence: Evidence) -> Tensor:
        """Scores the channels of a group, `(C,)`."""
        found = evidence.eliminate(group)
        if found is None:
            return writer_norms(group, evidence.tensors, 2)
        places = torch.empty(group.channels, dtype=torch.float64)
        places[found.order] = torch.arange(group.channels, dtype=torch.float64)
        return places
