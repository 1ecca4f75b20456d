"""Least squares restricted to the weights that stay: the values that go with a mask of any criterion."""

from __future__ import annotations

import torch
from torch import Tensor

_DIRECT = 768
"""Outputs that keep more weights than this are solved for iteratively: k^3 / 3 multiplications each are too many."""
_ITERATIONS, _TOLERANCE = 200, 1e-5


def solve_restricted(gram: Tensor, weight: Tensor, mask: Tensor, *, memory: int = 1 << 26) -> Tensor:
    """Minimises `(w - w_0) G (w - w_0)^T` for every output over the weights that stay.

    Outputs that keep up to `_DIRECT` weights are solved for by Cholesky's method, several together; the others by
    conjugate gradients, all together, to a relative residual of 1e-5 or for 200 steps.

    Args:
        gram: Second moments of the input, `(groups, d, d)`, positive definite (add a ridge).
        weight: `w_0`, the solution without restriction, `(groups, O / groups, d)`.
        mask: True where a weight stays, of the weight's shape.
        memory: Bound on the systems that are held at once, in bytes; outputs take turns, at least one at a time.

    Returns:
        The weights in the shape and the format of `weight`, zero where the mask is false.
    """
    gram, found = gram.double(), weight.double()
    target = (found @ gram).flatten(0, 1)
    stays, solved = mask.flatten(0, 1), torch.zeros_like(target)
    counts = stays.sum(1)
    group_of = torch.arange(len(counts), device=gram.device) // weight.shape[1]
    by_count = counts.argsort()  # outputs of like counts together: their systems are padded to the largest
    direct = by_count[counts[by_count] <= _DIRECT]
    while len(direct):
        rows = direct[: max(1, memory // (3 * 8 * max(int(counts[direct[-1]]), 1) ** 2))]
        direct = direct[len(rows) :]
        solved[rows] = _solve(gram, group_of[rows], target[rows], stays[rows], int(counts[rows].max()))
    solved = solved.reshape(weight.shape)
    if len(by_count) and int(counts[by_count[-1]]) > _DIRECT:
        wide = (counts > _DIRECT).reshape(weight.shape[:2])
        iterated = _descend(gram, found, mask & wide[:, :, None])
        solved = torch.where(wide[:, :, None], iterated, solved)
    return solved.to(weight.dtype)


def _solve(gram: Tensor, group_of: Tensor, target: Tensor, mask: Tensor, size: int) -> Tensor:
    """Solves the systems of some outputs, padded with the identity to `size`."""
    places = mask.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :size]
    stays = mask.gather(1, places)
    systems = gram[group_of[:, None, None], places[:, :, None], places[:, None, :]]
    systems *= stays[:, :, None] & stays[:, None, :]
    systems.diagonal(dim1=1, dim2=2).add_(~stays)
    right = target.gather(1, places) * stays
    factor = torch.linalg.cholesky(systems)
    values = torch.cholesky_solve(right[:, :, None], factor)[:, :, 0]
    return torch.zeros_like(target).scatter_(1, places, values * stays)


def _descend(gram: Tensor, weight: Tensor, mask: Tensor) -> Tensor:
    """Solves all outputs together by conjugate gradients, preconditioned by the Gram matrix's diagonal."""
    scale = gram.diagonal(dim1=1, dim2=2)[:, None]
    solved = weight * mask
    residual = ((weight - solved) @ gram) * mask
    bound = _TOLERANCE * ((weight @ gram) * mask).norm(dim=2, keepdim=True)
    direction = scaled = residual / scale
    energy = (residual * scaled).sum(2, keepdim=True)
    tiny = torch.finfo(torch.float64).tiny
    for _ in range(_ITERATIONS):
        if bool((residual.norm(dim=2, keepdim=True) <= bound).all()):
            break
        image = (direction @ gram) * mask
        step = energy / (direction * image).sum(2, keepdim=True).clamp_min(tiny)
        solved, residual = solved + step * direction, residual - step * image
        scaled = residual / scale
        energy, before = (residual * scaled).sum(2, keepdim=True), energy
        direction = scaled + energy / before.clamp_min(tiny) * direction
    return solved
