"""Least squares restricted to the weights that stay: the values that go with a mask of any criterion."""

from __future__ import annotations

import torch
from torch import Tensor


def solve_restricted(gram: Tensor, weight: Tensor, mask: Tensor, *, memory: int = 1 << 30) -> Tensor:
    """Minimises `(w - w_0) G (w - w_0)^T` for every output over the weights that stay.

    Args:
        gram: Second moments of the input, `(d, d)`, positive definite (add a ridge).
        weight: `w_0`, the solution without restriction, `(O, d)`.
        mask: True where a weight stays, `(O, d)`.
        memory: Bound on the systems that are held at once, in bytes; outputs take turns, at least one at a time.

    Returns:
        The weights `(O, d)` in the format of `weight`, zero where the mask is false.
    """
    gram, target = gram.double(), weight.double() @ gram.double()
    solved = torch.zeros_like(target)
    counts = mask.sum(1)
    by_count = counts.argsort()  # outputs of like counts together: their systems are padded to the largest
    start = 0
    while start < len(by_count):
        rows = by_count[start:]
        size = int(counts[rows[-1]])
        rows = rows[: max(1, memory // (3 * 8 * max(size, 1) ** 2))]
        start += len(rows)
        solved[rows] = _solve(gram, target[rows], mask[rows], int(counts[rows].max()))
    return solved.to(weight.dtype)


def _solve(gram: Tensor, target: Tensor, mask: Tensor, size: int) -> Tensor:
    """Solves the systems of some outputs, padded with the identity to `size`."""
    places = mask.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :size]
    stays = mask.gather(1, places)
    systems = gram[places[:, :, None], places[:, None, :]]
    systems *= stays[:, :, None] & stays[:, None, :]
    systems.diagonal(dim1=1, dim2=2).add_(~stays)
    right = target.gather(1, places) * stays
    factor = torch.linalg.cholesky(systems)
    values = torch.cholesky_solve(right[:, :, None], factor)[:, :, 0]
    return torch.zeros_like(target).scatter_(1, places, values * stays)
