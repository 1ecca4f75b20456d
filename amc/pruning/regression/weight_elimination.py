"""Backward elimination of single weights on a layer's normal equations: the optimal brain surgeon, one row at a time.

Every output of a layer is a regression of its own, `y_o = X w_o`, with the same Gram matrix. Removing weight p of a row
and refitting the row's other weights costs `w_p^2 / [H]_pp`, where H is the inverse of the Gram matrix over the weights
that are left (Hassibi and Stork, 1993; ExactOBS: Frantar and Alistarh, arXiv:2208.11580, section 4). All rows of a
layer go one weight at a time, side by side; what each removal cost tells in which order they go over the whole layer.

Two deviations from the paper's code, neither of which changes a result: weights that are gone leave the matrices, so
that a step of a row with n weights left costs n^2 and not d^2; and the rank-one updates of H are gathered and applied
`_BATCH` at a time by one matrix product.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_BATCH = 32
"""Rank-one updates that are applied together."""
_MEMORY = 1 << 26
"""Bound on what is held at once, in bytes: few outputs at a time, as matrices that stay near the cache are faster."""


@dataclass(frozen=True)
class RowTraces:
    """In which order the weights of every output go, and what that costs.

    Attributes:
        order: Input features of each output in the order in which they go, `(groups, O / groups, d)`.
        costs: What each removal adds to the squared error of the output, with the weights that are left refit.
    """

    order: Tensor
    costs: Tensor

    def prices(self, importance: Tensor) -> Tensor:
        """Returns what each weight's removal costs, in the place of the weight: the highest prices stay.

        A step that costs less than one before it of the same output can only be taken after that one, so that its price
        is that one's, and a hair more for each step.

        Args:
            importance: What a squared error of each output counts, `(O,)`.
        """
        costs = self.costs * importance.reshape(*self.costs.shape[:2], 1)
        rising = torch.arange(1, costs.shape[2] + 1, dtype=costs.dtype, device=costs.device)
        due = costs.clamp_min(1e-30).cummax(2).values * (1 + 1e-12 * rising)
        return torch.zeros_like(due).scatter_(2, self.order, due)


def eliminate_weights(gram: Tensor, weight: Tensor, *, memory: int = _MEMORY) -> RowTraces:
    """Removes the weights of every output one at a time, always the one whose removal costs that output least.

    Args:
        gram: Second moments of the input, `(groups, d, d)`, positive definite (add a ridge).
        weight: The weights from which the error is measured, `(groups, O / groups, d)`: the least-squares solution.
        memory: Bound on the inverses that are held at once, in bytes; outputs take turns, at least one at a time.

    Returns:
        The traces of all outputs, on the device of the Gram matrix.
    """
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram.double()))
    at_once = rows_at_once(gram.shape[1], memory)
    rows = weight.double().flatten(0, 1)
    group_of = torch.arange(len(rows), device=rows.device) // weight.shape[1]
    parts = [
        eliminate_rows(inverse[group_of[first : first + at_once]], rows[first : first + at_once])
        for first in range(0, len(rows), at_once)
    ]
    order, costs = (torch.cat(found).reshape(weight.shape) for found in zip(*parts, strict=True))
    return RowTraces(order, costs)


def rows_at_once(features: int, memory: int = _MEMORY) -> int:
    """Returns how many outputs' inverses of some features are held at once."""
    return max(1, memory // (3 * 8 * features**2))  # the inverse, its copy without what is gone, the update


def eliminate_rows(inverse: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Eliminates all weights of some outputs.

    Args:
        inverse: The inverse of the Gram matrix for each output, `(O, d, d)`.
        weight: The least-squares solutions, `(O, d)`.

    Returns:
        The features of each output in the order in which they go, and what each step costs, `(O, d)` each.
    """
    outputs, features = weight.shape
    left = torch.arange(features, device=weight.device).expand(outputs, -1)
    orders, costs = [], []
    while left.shape[1]:
        count = min(_BATCH, left.shape[1])
        slots, paid, updates, weight = _steps(inverse, weight, count)
        orders.append(left.gather(1, slots))
        costs.append(paid)
        stays = torch.ones_like(left, dtype=torch.bool).scatter_(1, slots, False).nonzero()[:, 1].reshape(outputs, -1)
        left, weight = left.gather(1, stays), weight.gather(1, stays)
        updates = updates.gather(1, stays[:, :, None].expand(-1, -1, count))
        inverse = _without(inverse, stays).baddbmm_(updates, updates.transpose(1, 2), alpha=-1)
    return torch.cat(orders, 1), torch.cat(costs, 1)


def _without(matrices: Tensor, stays: Tensor) -> Tensor:
    """Returns the rows and columns `(O, n)` of matrices `(O, d, d)` that stay."""
    outputs, count = stays.shape
    rows = matrices.gather(1, stays[:, :, None].expand(-1, -1, matrices.shape[2]))
    return rows.gather(2, stays[:, None, :].expand(outputs, count, count))


def _steps(inverse: Tensor, weight: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Takes some steps of every output.

    Returns:
        The slots that go `(O, count)`, what they cost `(O, count)`, the vectors whose outer products are to be
        subtracted from the inverses `(O, n, count)`, and the refitted weights `(O, n)`.
    """
    diagonal = inverse.diagonal(dim1=1, dim2=2).clone()
    outputs, size = weight.shape
    updates = weight.new_zeros(outputs, count, size)
    slots = torch.empty(outputs, count, dtype=torch.int64, device=weight.device)
    paid = weight.new_empty(outputs, count)
    gone = torch.zeros_like(weight, dtype=torch.bool)
    rows = torch.arange(outputs, device=weight.device)
    for step in range(count):
        saliency = (weight.square() / diagonal).masked_fill_(gone, torch.inf)
        paid[:, step], slot = saliency.min(1)
        slots[:, step] = slot
        # The column of the inverse as it is now: less what the steps of this batch have taken from it.
        earlier = updates[:, :step]
        column = inverse[rows, slot] - (earlier[rows, :, slot][:, None] @ earlier)[:, 0]
        root = column[rows, slot].clamp_min(torch.finfo(torch.float64).tiny).sqrt()
        updates[:, step] = column / root[:, None]
        weight = weight - updates[:, step] * (weight[rows, slot] / root)[:, None]
        diagonal -= updates[:, step].square()
        gone[rows, slot] = True
    return slots, paid, updates.transpose(1, 2), weight
