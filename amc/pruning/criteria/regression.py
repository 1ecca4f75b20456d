"""Criteria that look at the normal equations of the layers that read a group.

A group whose readers are not run as convolutions or linear layers (fused attention) has no normal equations: its
channels go by the Euclidean norm of their filters.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import lasso_path
from torch import Tensor

from amc.pruning.criteria.evidence import GRAMS, Evidence, Needs
from amc.pruning.criteria.norms import writer_norms
from amc.pruning.regression.elimination import Regression
from amc.structure import ChannelGroup

_PATH = 200
"""Penalties on the path of the LASSO."""
_SMALLEST = 1e-4
"""The smallest penalty on the path, relative to the one at which no channel is left."""


class GreedyElimination:
    """Greedy backward elimination: always the channel whose removal, all others refit, changes the readers least.

    The optimal brain surgeon by blocks (Hassibi and Stork, 1993; Kurtic et al., 2022, arXiv:2203.07259, section 3):
    with H the inverse Gram matrix of what a layer reads, removing the features c costs `tr(W_c^T (H_cc)^-1 W_c)`. A
    channel's score is its place in the order in which the channels go. Deviations: the Gram matrix is that of each
    reader's squared error, not of the loss; the rest is refit after every step; and in wide groups several channels go
    at a time. See `amc.pruning.regression.elimination`.
    """

    needs: ClassVar[Needs] = frozenset({GRAMS})

    def __call__(self, group: ChannelGroup, evidence: Evidence) -> Tensor:
        """Scores the channels of a group, `(C,)`."""
        found = evidence.eliminate(group)
        return writer_norms(group, evidence.tensors, 2) if found is None else _places(found.order)


class ThiNet:
    """Greedy growth of the set of channels whose sum contributes least to what the next layers compute.

    Luo et al., *ThiNet* (arXiv:1707.06342), Algorithm 1: to the set T of what is removed, always add the channel that
    makes `sum_i (sum_{j in T} x_ij)^2` smallest, where `x_ij` is what channel j contributes to output i. A channel's
    score is its place in that order. Deviations: the sum runs over all output channels at the sampled positions, not
    over a draw of them; where several layers read the channels, their outputs count together, unscaled; the refit
    afterwards has all weights of the readers free, not one factor per channel.
    """

    needs: ClassVar[Needs] = frozenset({GRAMS})

    def __call__(self, group: ChannelGroup, evidence: Evidence) -> Tensor:
        """Scores the channels of a group, `(C,)`."""
        moments = contributions(group, evidence)
        return writer_norms(group, evidence.tensors, 2) if moments is None else _places(thinet_order(moments))


class LassoSelection:
    """LASSO on one factor per channel: what stays longest as the penalty grows.

    He et al., *Channel Pruning for Accelerating Very Deep Neural Networks* (arXiv:1707.06168), Eq. 2:
    `min_b 1/(2N) |Y - sum_i b_i X_i W_i^T|^2 + penalty * |b|_1`; its second step, least squares on what stays, is the
    refit of the tables. A channel's score is the largest penalty at which its factor is not zero; of channels that
    enter the path at one step, the larger factor stays. Deviations: one path of penalties serves all widths, so what is
    kept is nested, where the paper searches a penalty for each width; all readers of a group count together, unscaled;
    layers are not done in sequence here, which the refit of the chosen network makes up for.
    """

    needs: ClassVar[Needs] = frozenset({GRAMS})

    def __call__(self, group: ChannelGroup, evidence: Evidence) -> Tensor:
        """Scores the channels of a group, `(C,)`."""
        moments = contributions(group, evidence)
        return writer_norms(group, evidence.tensors, 2) if moments is None else lasso_scores(moments)


def contributions(group: ChannelGroup, evidence: Evidence) -> Tensor | None:
    """Returns the second moments of what the channels contribute to the outputs of the layers that read them.

    Args:
        group: The group.
        evidence: Has the normal equations.

    Returns:
        `(C, C)`, float64, on the CPU: for channels i and j, the mean over the rows of the sum over all outputs of
        `(X_i W_i)(X_j W_j)`, summed over the readers; zero between channels where only diagonal blocks of a Gram matrix
        are known. None if no reader is run as a convolution or a linear layer.
    """
    problems = [problem for _, by_reader in evidence.regressions(group) for problem in by_reader]
    return sum_of_moments(problems) if problems else None


def sum_of_moments(problems: Sequence[Regression]) -> Tensor:
    """Adds up the second moments of the channels' contributions over some regressions; see `contributions`."""
    channels = len(problems[0].weight) // problems[0].positions
    total = torch.zeros(channels, channels, dtype=torch.float64)
    for problem in problems:
        weight, gram, p = problem.weight.double(), problem.gram.double(), problem.positions
        if problem.refittable:
            products = gram * (weight @ weight.T)
            total += products.reshape(channels, p, channels, p).sum((1, 3)).cpu()
        else:
            blocks = weight.reshape(channels, p, -1)
            total += torch.diag((blocks * (gram @ blocks)).sum((1, 2))).cpu()
    return total


def thinet_order(moments: Tensor) -> Tensor:
    """Returns the order in which ThiNet removes channels, `(C,)`, from the moments of their contributions `(C, C)`."""
    costs, removed = moments.diagonal().clone(), []
    for _ in range(len(moments)):
        channel = int(costs.argmin())
        removed.append(channel)
        costs += 2 * moments[channel]
        costs[removed] = torch.inf
    return torch.tensor(removed)


def lasso_scores(moments: Tensor) -> Tensor:
    """Returns the largest penalty at which each channel has a factor, `(C,)`, from the moments `(C, C)`.

    Of channels that enter between two penalties of the path, those with the larger factors are taken to enter first.
    """
    largest = float(moments.sum(1).abs().max())
    if largest == 0:  # without contributions there is no loss
        return torch.zeros(len(moments), dtype=torch.float64)
    penalties = np.geomspace(largest, _SMALLEST * largest, _PATH)
    factors = np.abs(lasso_factors(moments, penalties))
    first = np.where(factors.any(1), (factors > 0).argmax(1), _PATH - 1)
    entered = factors[np.arange(len(factors)), first]
    step = penalties[np.maximum(first - 1, 0)] - penalties[first]
    rivals = np.array([entered[first == place].max(initial=0.0) for place in first])
    share = np.divide(entered, rivals, out=np.zeros_like(entered), where=rivals > 0)
    return torch.from_numpy(np.where(entered > 0, penalties[first] + 0.999 * step * share, 0.0))


def lasso_factors(moments: Tensor, penalties: NDArray[np.float64]) -> NDArray[np.float64]:
    """Solves the LASSO on one factor per channel for a path of penalties.

    Args:
        moments: Second moments A of the contributions, `(C, C)`: the objective is
            `(1 - b)^T A (1 - b) / 2 + penalty * |b|_1`.
        penalties: Falling.

    Returns:
        The factors, `(C, penalties)`.
    """
    values, vectors = torch.linalg.eigh(moments)
    root = (values.clamp_min(0).sqrt()[:, None] * vectors.T * len(moments) ** 0.5).numpy()  # root^T root / C is A
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the order needs no last digits
        found: NDArray[np.float64] = lasso_path(root, root.sum(1), alphas=penalties, max_iter=5000, tol=1e-6)[1]
    return found


def _places(order: Tensor) -> Tensor:
    """Returns the place of each channel in an order, as scores `(C,)`."""
    places = torch.empty(len(order), dtype=torch.float64)
    places[order.cpu()] = torch.arange(len(order), dtype=torch.float64)
    return places
