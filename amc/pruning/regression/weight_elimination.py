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


@dataclass(frozen=True)
class RowTraces:
    """In which order the weights of every output go, and what that costs.

    Attributes:
        order: Input features of each output in the order in which they go, `(O, d)`.
        costs: What each removal adds to the squared error of the output, with the weights left refit, `(O, d)`;
            multiplied by the output's importance.
    """

    order: Tensor
    costs: Tensor

    def ranks(self) -> Tensor:
        """Returns the place of every weight in the order of importance over the whole layer, `(O, d)`, from 0.

        The weights that stay at any count are those of a rank below it. Within an output, a weight that goes later
        ranks higher; between outputs, the one goes next whose next step costs least.
        """
        outputs, features = self.order.shape
        # A step that costs less than one before it of the same output can only be taken after that one.
        due = self.costs.cummax(1).values.flatten()
        place = torch.empty(outputs * features, dtype=torch.int64, device=due.device)
        place[due.argsort(stable=True)] = torch.arange(outputs * features - 1, -1, -1, device=due.device)
        ranks = torch.empty_like(self.order)
        ranks.scatter_(1, self.order, place.reshape(outputs, features))
        return ranks


def eliminate_weights(
    gram: Tensor, weight: Tensor, importance: Tensor | None = None, *, memory: int = 1 << 30
) -> RowTraces:
    """Removes the weights of every output one at a time, always the one whose removal costs that output least.

    Args:
        gram: Second moments of the input, `(d, d)`, positive definite (add a ridge).
        weight: The weights from which the error is measured, `(O, d)`: the least-squares solution.
        importance: What a squared error of each output counts, `(O,)`; 1 if None.
        memory: Bound on the inverses that are held at once, in bytes; outputs take turns, at least one at a time.

    Returns:
        The traces of all outputs, on the device of the Gram matrix.
    """
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram.double()))
    at_once = max(1, memory // (3 * inverse.nbytes))  # the inverse, its copy without what is gone, the update
    parts = [_eliminate(inverse, rows.double()) for rows in torch.split(weight, at_once)]
    costs = torch.cat([costs for _, costs in parts])
    if importance is not None:
        costs = costs * importance.double()[:, None]
    return RowTraces(torch.cat([order for order, _ in parts]), costs)


def _eliminate(inverse: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Eliminates all weights of some outputs; returns the order and the costs, `(O, d)` each."""
    outputs, features = weight.shape
    left = torch.arange(features, device=weight.device).expand(outputs, -1)
    inverse = inverse.expand(outputs, -1, -1)
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
