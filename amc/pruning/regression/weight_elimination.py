"""Backward elimination of single weights on a layer's normal equations: the optimal brain surgeon, one row at a time.

Every output of a layer is a regression of its own, `y_o = X w_o`, with the same Gram matrix. Removing weight p of a row
and refitting the row's other weights costs `w_p^2 / [H]_pp`, where H is the inverse of the Gram matrix over the weights
that are left (Hassibi and Stork, 1993; ExactOBS: Frantar and Alistarh, arXiv:2208.11580, section 4). All rows of a
layer go one weight at a time, side by side; what each removal cost tells in which order they go over the whole layer.

Two deviations from the paper's code, neither of which changes a result: weights that are gone leave the matrices, a
fifth of them at a time, so that a step of a row with n weights left costs about n^2 and not d^2; and the rank-one
updates of H are gathered and applied `_BATCH` at a time by one matrix product.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_BATCH = 32
"""Rank-one updates that are applied together."""
_FULL = 0.8
"""Matrices are freed of what is gone when no more than this share of their rows is left: the copy costs more than a few
products with zeros."""
_MEMORY = 1 << 28
"""Bound on what is held at once, in bytes."""
_CACHE = 1 << 23
"""Matrices that are copied together take no more than this, in bytes, so that they stay in the cache until they are
updated."""


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
    return max(1, memory // (2 * 8 * features**2))  # the inverse, and its copy without what is gone


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
    gone = torch.zeros_like(weight, dtype=torch.bool)
    orders, costs = [], []
    for first in range(0, features, _BATCH):
        count = min(_BATCH, features - first)
        slots, paid, updates, weight = _steps(inverse, weight, gone, count)
        orders.append(left.gather(1, slots))
        costs.append(paid)
        if features - first - count <= _FULL * left.shape[1]:
            stays = (~gone).nonzero()[:, 1].reshape(outputs, -1)
            inverse = _updated_without(inverse, updates, stays)
            left, weight, gone = (kept.gather(1, stays) for kept in (left, weight, gone))
        else:
            subtract = Tensor.baddbmm_ if first else torch.baddbmm  # the first matrices are the caller's
            inverse = subtract(inverse, updates.transpose(1, 2), updates, alpha=-1)
    return torch.cat(orders, 1), torch.cat(costs, 1)


def _updated_without(inverse: Tensor, updates: Tensor, stays: Tensor) -> Tensor:
    """Subtracts updates `(O, count, d)` from matrices `(O, d, d)`, of which rows and columns `(O, n)` stay."""
    outputs, count = stays.shape
    result = inverse.new_empty(outputs, count, count)
    at_once = max(1, _CACHE // (8 * inverse.shape[1] ** 2))
    for first in range(0, outputs, at_once):
        part = slice(first, first + at_once)
        update = updates[part].gather(2, stays[part, None].expand(-1, updates.shape[1], -1))
        matrices = _without(inverse[part], stays[part])
        torch.baddbmm(matrices, update.transpose(1, 2), update, alpha=-1, out=result[part])
    return result


def _without(matrices: Tensor, stays: Tensor) -> Tensor:
    """Returns the rows and columns `(O, n)` of matrices `(O, d, d)` that stay."""
    outputs, count = stays.shape
    rows = matrices.gather(1, stays[:, :, None].expand(-1, -1, matrices.shape[2]))
    return rows.gather(2, stays[:, None, :].expand(outputs, count, count))


def _steps(inverse: Tensor, weight: Tensor, gone: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Takes some steps of every output, and notes in `gone`, `(O, n)`, what goes.

    Returns:
        The slots that go `(O, count)`, what they cost `(O, count)`, the vectors whose outer products are to be
        subtracted from the inverses `(O, count, n)`, and the refitted weights `(O, n)`.
    """
    diagonal = inverse.diagonal(dim1=1, dim2=2).clone()
    outputs, size = weight.shape
    updates = weight.new_zeros(outputs, count, size)
    slots = torch.empty(outputs, count, dtype=torch.int64, device=weight.device)
    paid = weight.new_empty(outputs, count)
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
    return slots, paid, updates, weight
