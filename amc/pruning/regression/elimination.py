"""Backward elimination of channels on the normal equations of their readers.

A reader computes `Y = X W`. Removing the rows of W that read a channel, and refitting the other rows so that `Y`
changes least, is the structured form of the optimal brain surgeon (Hassibi and Stork, 1993; Kurtic et al., 2022).
With `H = (X^T X / rows + ridge)^-1`, removing the block c of features costs `tr(W_c^T (H_cc)^-1 W_c)`; the refit is
`W -= H_:c (H_cc)^-1 W_c`, and H loses the block by a Schur complement, `H -= H_:c (H_cc)^-1 H_c:`. Each step is exact:
after it, W minimises `|X W - Y|^2 + ridge |W - W_dense|^2` over the channels that are left, so one pass yields the
order, the errors and the refitted weights of every width.

Where more than `CHUNK` channels are left, several go at a time, one in `CHUNK`: the refit stays exact, the choice is
greedy by chunks, and thousands of channels take seconds in place of minutes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from amc.pruning.regression.damping import damping_of

CHUNK = 64
"""The share of channels that go at a time is one over this; at least one goes."""


@dataclass(frozen=True)
class Regression:
    """What one reader (or one group of a grouped convolution) computes from a channel group.

    Attributes:
        gram: Second moments of the features that the group feeds, `(C * p, C * p)`, channel-major: p features for each
            of the C channels; or the diagonal blocks alone, `(C, p, p)`, which allow no refit.
        mean: Mean features, `(C * p,)`.
        weight: The dense weights, `(C * p, O)`.
        positions: p.
        intercept: Whether a constant may be added to every output, to make up for the means of what is removed.
        scale: Importance of an error in each output, `(O,)`, for example the scale of the batch norm behind it.
        scarcity: Features per row that the moments were averaged over; added to the ridge, so that few rows are not
            overfitted.
    """

    gram: Tensor
    mean: Tensor
    weight: Tensor
    positions: int
    intercept: bool = False
    scale: Tensor | None = None
    scarcity: float = 0.0

    @property
    def refittable(self) -> bool:
        """Whether the whole Gram matrix is known."""
        return self.gram.dim() == 2


@dataclass(frozen=True)
class Elimination:
    """The outcome for one channel group.

    Attributes:
        order: Channels in the order in which they go, least important first, `(C,)`.
        errors: Relative squared error of the readers' outputs when w channels are kept, summed over the readers,
            for w = 0 .. C: `errors[C]` is 0.
        weights: For every width asked for, the refitted weights of each regression, `(w, p, O)`, the channels in rising
            order; None where the regression is not refittable.
        intercepts: For every width asked for, what each regression adds to its outputs, `(O,)`; None without intercept.
    """

    order: Tensor
    errors: Tensor
    weights: Mapping[int, tuple[Tensor | None, ...]]
    intercepts: Mapping[int, tuple[Tensor | None, ...]]


def eliminate(
    regressions: Sequence[Regression],
    *,
    widths: Collection[int],
    order: Tensor | None = None,
    ridge: float = 1e-3,
) -> Elimination:
    """Removes the channels of a group, least important first, and refits what is left.

    Args:
        regressions: What reads the channels; at least one.
        widths: The widths to note the refitted weights for.
        order: The order in which the channels go; None for the greedy one: always the
            channel whose removal costs least.
        ridge: Ridge, relative to the mean of the Gram matrix's diagonal, see `damping_of`; must be positive.

    Returns:
        The order, the errors and the refitted weights.
    """
    problems = [_Problem(regression, ridge) for regression in regressions]
    channels = problems[0].channels
    removed: list[int] = []
    errors = [0.0]
    weights: dict[int, tuple[Tensor | None, ...]] = {}
    intercepts: dict[int, tuple[Tensor | None, ...]] = {}
    alive = list(range(channels))
    while alive:
        width = len(alive)
        if width in widths:
            ranks = torch.tensor(alive).argsort()
            weights[width] = tuple(problem.weights(ranks) for problem in problems)
            intercepts[width] = tuple(problem.intercept(width) for problem in problems)
        below = max((asked for asked in widths if asked < width), default=0)
        count = min(max(1, width // CHUNK), width - below)
        if order is None:
            costs = torch.stack([problem.costs(width) for problem in problems]).sum(0)
            slots = costs.topk(count, largest=False).indices.tolist()
        else:
            slots = [alive.index(channel) for channel in order[channels - width :][:count].tolist()]
        removed += [alive[slot] for slot in slots]
        cost = max(sum(problem.remove(slots, width) for problem in problems), 0.0)
        errors += [errors[-1] + cost * part / count for part in range(1, count + 1)]
        for slot in sorted(slots, reverse=True):
            alive[slot] = alive[-1]  # the last channel moves into the gap, so that the live part stays contiguous
            alive.pop()
    return Elimination(torch.tensor(removed), torch.tensor(errors[::-1]), weights, intercepts)


class _Problem:
    """The state of one regression during the elimination, in float64.

    The live channels occupy the first slots; with an intercept, the constant feature comes before them.
    """

    def __init__(self, regression: Regression, ridge: float) -> None:
        """Inverts the regularised Gram matrix."""
        self._p, self._lead = regression.positions, int(regression.intercept)
        self.channels = len(regression.weight) // self._p
        self._refittable = regression.refittable
        weight, mean = regression.weight.double(), regression.mean.double()
        gram = regression.gram.double()
        self._scale = None if regression.scale is None else regression.scale.double().clamp_min(1e-6)
        self._weight = torch.cat([weight.new_zeros(self._lead, weight.shape[1]), weight])
        if self._scale is not None:
            self._weight *= self._scale
        self._mean = mean.clone()
        scaled, tiny = self._weight[self._lead :], torch.finfo(torch.float32).tiny
        if self._refittable:
            energy = (scaled * (gram @ scaled)).sum()
            constant = mean if regression.intercept else None
            self._inverse = _inverse(gram, constant, damping_of(ridge + regression.scarcity, gram, constant))
        else:
            blocks, live = self._diagonal(gram, 0), self._blocks(scaled)
            energy = (live * (blocks @ live)).sum()
            centred = mean.reshape(-1, self._p)
            moments = blocks - float(self._lead) * centred[:, :, None] * centred[:, None]
            self._fixed_costs = (live * (moments @ live)).sum((1, 2)) / (float(energy) + tiny)
        self._energy = float(energy) + tiny

    def costs(self, width: int) -> Tensor:
        """Returns what the removal of each live channel costs, relative to the energy of the output."""
        if not self._refittable:
            return self._fixed_costs[:width]  # without a refit, no channel's cost depends on the others
        live = self._blocks(self._weight[self._lead : self._lead + width * self._p])
        diagonal = self._diagonal(self._inverse, self._lead)[:width]
        solved = live / diagonal if self._p == 1 else torch.linalg.solve(diagonal, live)
        costs: Tensor = (live * solved).sum((1, 2)) / self._energy
        return costs

    def remove(self, slots: Sequence[int], width: int) -> float:
        """Removes the channels in some slots together and refits the others; returns the relative cost.

        The last live channels move into the gaps.
        """
        p, lead = self._p, self._lead
        end = lead + width * p
        if self._refittable:
            gone = (lead + torch.tensor(slots)[:, None] * p + torch.arange(p)).flatten().to(self._weight.device)
            inverse, weight = self._inverse[:end, :end], self._weight[:end]
            block, columns, lost = inverse[gone][:, gone], inverse[:, gone], weight[gone]
            solved = torch.linalg.solve(block, lost)
            cost = float((lost * solved).sum()) / self._energy
            weight -= columns @ solved
            inverse -= columns @ torch.linalg.solve(block, columns.T)
        else:
            cost = float(self._fixed_costs[slots].sum())
        for place, slot in enumerate(sorted(slots, reverse=True)):
            self._fill_gap(slot, width - place)
        return cost

    def _fill_gap(self, slot: int, width: int) -> None:
        """Moves the last of `width` live channels into a slot."""
        p, lead = self._p, self._lead
        end, last = lead + width * p, lead + (width - 1) * p
        gone = slice(lead + slot * p, lead + (slot + 1) * p)
        if self._refittable:
            self._inverse[gone, :end] = self._inverse[last:end, :end].clone()
            self._inverse[:end, gone] = self._inverse[:end, last:end].clone()
        else:
            if lead:
                self._weight[0] += self._mean[slot * p : (slot + 1) * p] @ self._weight[gone]
            self._fixed_costs[slot] = self._fixed_costs[width - 1].clone()
            self._mean[slot * p : (slot + 1) * p] = self._mean[last - lead : end - lead].clone()
        self._weight[gone] = self._weight[last:end].clone()

    def weights(self, ranks: Tensor) -> Tensor | None:
        """Returns the refitted weights, `(w, p, O)`, the slots taken in the order given."""
        if not self._refittable:
            return None
        live = self._weight[self._lead : self._lead + len(ranks) * self._p]
        return self._blocks(self._unscaled(live))[ranks].float()

    def intercept(self, width: int) -> Tensor | None:
        """Returns what is to be added to every output, `(O,)`."""
        return self._unscaled(self._weight[0]).float() if self._lead else None

    def _unscaled(self, weight: Tensor) -> Tensor:
        """Undoes the weighting of the outputs."""
        return weight.clone() if self._scale is None else weight / self._scale

    def _blocks(self, weight: Tensor) -> Tensor:
        """Views rows as `(channels, p, O)`."""
        return weight.reshape(-1, self._p, weight.shape[1])

    def _diagonal(self, matrix: Tensor, lead: int) -> Tensor:
        """Returns the diagonal blocks `(channels, p, p)` of a matrix, past the constant feature."""
        if matrix.dim() == 3:
            return matrix
        size = (len(matrix) - lead) // self._p
        p = self._p
        row, column = matrix.stride()
        blocks = matrix[lead:, lead:].as_strided((size, p, size, p), (p * row, row, p * column, column))
        return blocks.diagonal(dim1=0, dim2=2).permute(2, 0, 1)


def _inverse(gram: Tensor, mean: Tensor | None, damping: Tensor) -> Tensor:
    """Inverts `gram + damping`, with a constant feature put first if its moments are given."""
    regular = gram.clone()
    regular.diagonal().add_(damping)
    if mean is not None:
        first = torch.cat([mean.new_ones(1), mean])
        regular = torch.cat([first[None], torch.cat([mean[:, None], regular], 1)])
    factor: Tensor = torch.linalg.cholesky(regular)
    return torch.cholesky_inverse(factor)
