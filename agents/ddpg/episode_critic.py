"""A critic that sees the whole allocation."""

from __future__ import annotations

import torch
from torch import nn


class EpisodeCritic(nn.Module):
    """An ensemble that predicts an episode's reward from all of its keep ratios.

    Each member is a quadratic function without products, plus a small network, on standardised rewards. The members
    differ only in their initial weights; where they disagree, the reward is still unknown.
    """

    def __init__(self, decisions: int, hidden: int, members: int) -> None:
        """Creates the members.

        Args:
            decisions: Length of the allocations.
            hidden: Width of the two hidden layers.
            members: How many members.
        """
        super().__init__()
        shapes = ((decisions, hidden), (hidden, hidden), (hidden, 1))
        self.weights = nn.ParameterList(
            nn.Parameter(torch.randn(members, rows, columns) * (1.0 / rows) ** 0.5) for rows, columns in shapes
        )
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(members, 1, columns)) for _, columns in shapes)
        self.additive = nn.Parameter(torch.zeros(members, 2 * decisions, 1))

    def forward(self, keep: torch.Tensor) -> torch.Tensor:
        """Returns standardised rewards, shape `(members, N)`, of keep ratios, shape `(N, decisions)`."""
        centred = (2.0 * keep - 1.0).expand(len(self.additive), *keep.shape)
        hidden = centred
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            hidden = nn.functional.silu(torch.baddbmm(bias, hidden, weight))
        output = torch.baddbmm(self.biases[-1], hidden, self.weights[-1])
        return (output + torch.bmm(torch.cat([centred, centred.square()], dim=2), self.additive)).squeeze(2)
