"""Backward elimination of single weights in layers of many inputs: by halves, in blocks of what is left.

A row of d weights takes `2 d^3 / 3` multiplications as a whole (`amc.pruning.regression.weight_elimination`), which is
too many for a row of thousands. Here a row loses half of what it has left in each round, until a block holds all of it.
In a round, each block of neighbouring weights is refit and eliminated with the weights outside it held as they are, and
of all blocks' steps the cheapest are taken. What a block does not see of the others, the refits of later rounds make up
for. Most of a row goes in steps that cost next to nothing, and by the time that steps become costly, few enough weights
are left for a block to hold most or all of them. A round takes `2 d b^2 / 3` multiplications for blocks of b weights.
"""

from __future__ import annotations

import torch
from torch import Tensor

from amc.pruning.regression.weight_elimination import RowTraces, eliminate_rows, eliminate_weights, rows_at_once

_BLOCK = 256
_MEMORY = 1 << 26
"""Bound on the inverses of blocks that are held at once, in bytes."""


def weight_prices(gram: Tensor, weight: Tensor, importance: Tensor, *, width: int) -> Tensor:
    """Returns what the removal of each weight costs, `(groups, O / groups, d)`: the highest prices stay.

    Args:
        gram: As for `eliminate_weights`.
        weight: As for `eliminate_weights`.
        importance: What a squared error of each output counts, `(O,)`.
        width: Layers of more features go by halves, in blocks of at most this many features and at most 256.
    """
    if gram.shape[1] <= width:
        return eliminate_weights(gram, weight).prices(importance)
    return eliminate_by_halves(gram, weight, block=min(width, _BLOCK)).prices(importance)


def eliminate_by_halves(gram: Tensor, weight: Tensor, *, block: int = _BLOCK) -> RowTraces:
    """Removes the weights of every output, half of those that are left in each round.

    Args:
        gram: As for `eliminate_weights`.
        weight: As for `eliminate_weights`.
        block: Weights of a row that are eliminated together, at most; rows of no more are eliminated as
            `eliminate_weights` does it.

    Returns:
        The traces. Costs count what is refit in the same block alone, and none is below one before it.
    """
    traces = []
    for moments, dense in zip(gram.double(), weight.double(), strict=True):
        parts = [_by_halves(moments, part, block) for part in dense.split(rows_at_once(block, _MEMORY))]
        traces.append([torch.cat(found) for found in zip(*parts, strict=True)])
    order, costs = (torch.stack(found) for found in zip(*traces, strict=True))
    return RowTraces(order, costs)


def _by_halves(gram: Tensor, dense: Tensor, block: int) -> tuple[Tensor, Tensor]:
    """Eliminates all weights of some outputs; returns the order and the costs, `(O, d)` each."""
    outputs, features = dense.shape
    left = torch.arange(features, device=dense.device).expand(outputs, -1)
    now, orders, costs = dense, [], []
    while left.shape[1]:
        order, paid, now = _round(gram, dense, now, left.chunk(-(-left.shape[1] // block), 1))
        going = order.shape[1] // 2 if order.shape[1] > block else order.shape[1]
        orders.append(order[:, :going])
        costs.append(paid[:, :going])
        now = now.scatter(1, orders[-1], 0.0)
        left = order[:, going:].sort(1).values
    return torch.cat(orders, 1), torch.cat(costs, 1)


def _round(gram: Tensor, dense: Tensor, now: Tensor, blocks: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Refits the blocks of every output, one after the other, and eliminates each by itself.

    Args:
        gram: Second moments of the input, `(d, d)`.
        dense: The weights from which the error is measured, `(O, d)`.
        now: The weights at present, zero where they are gone, `(O, d)`.
        blocks: The features that are left of every output, `(O, b)` each.

    Returns:
        The features in the order in which they would go, the cheapest first; what each step costs, or a step of its
        block before it, if that is more; and the refitted weights.
    """
    orders, costs = [], []
    for features in blocks:
        inverse = _inverse(gram, features)
        pull = ((dense - now) @ gram).gather(1, features)
        refit = now.gather(1, features) + (inverse @ pull[:, :, None])[:, :, 0]
        now = now.scatter(1, features, refit)
        order, paid = eliminate_rows(inverse, refit)
        orders.append(features.gather(1, order))
        costs.append(paid.cummax(1).values)
    found = torch.cat(costs, 1)
    paid, cheapest = found.sort(dim=1, stable=True)
    return torch.cat(orders, 1).gather(1, cheapest), paid, now


def _inverse(gram: Tensor, features: Tensor) -> Tensor:
    """Inverts the moments of some features for every output, `(O, b, b)`."""
    alike = bool((features == features[0]).all())  # in the first round no output has lost any
    sets = features[:1] if alike else features
    systems = gram[sets[:, :, None], sets[:, None, :]]
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(systems))
    return inverse.expand(len(features), -1, -1)
