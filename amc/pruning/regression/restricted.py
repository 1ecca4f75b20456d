"""Least squares restricted to the weights that stay: the values that go with a mask of any criterion."""

from __future__ import annotations

import torch
from torch import Tensor

_DIRECT = 768
"""Outputs that keep more weights than this, and lose more, are solved for iteratively: k^3 / 3 multiplications each are
too many."""
_ITERATIONS, _TOLERANCE = 200, 1e-5


def solve_restricted(gram: Tensor, weight: Tensor, mask: Tensor, *, memory: int = 1 << 26) -> Tensor:
    """Minimises `(w - w_0) G (w - w_0)^T` for every output over the weights that stay.

    An output is solved for by Cholesky's method, several together, in as many unknowns as the smaller of what stays and
    what goes: of what goes, it is the multipliers of the conditions `w = 0` (the optimal brain surgeon's joint step).
    Outputs with more than `_DIRECT` of both are solved for by conjugate gradients, all together, to a relative residual
    of 1e-5 or for 200 steps.

    Args:
        gram: Second moments of the input, `(groups, d, d)`, positive definite (add a ridge).
        weight: `w_0`, the solution without restriction, `(groups, O / groups, d)`.
        mask: True where a weight stays, of the weight's shape.
        memory: Bound on the systems that are held at once, in bytes; outputs take turns, at least one at a time.

    Returns:
        The weights in the shape and the format of `weight`, zero where the mask is false.
    """
    gram, found, size = gram.double(), weight.double(), weight.shape[2]
    rows, stays = found.flatten(0, 1), mask.flatten(0, 1)
    counts = stays.sum(1)
    most = counts > size // 2
    wide = torch.minimum(counts, size - counts) > _DIRECT
    group_of = torch.arange(len(counts), device=gram.device) // weight.shape[1]
    solved = torch.where(wide[:, None], _descend(gram, found, mask).flatten(0, 1), rows) if wide.any() else rows.clone()
    few, many = ~most & ~wide, most & ~wide
    if few.any():
        target = (found @ gram).flatten(0, 1)
        solved[few] = _systems(gram, group_of[few], target[few], stays[few], memory)
    if many.any():
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram))
        multipliers = _systems(inverse, group_of[many], rows[many], ~stays[many], memory)
        taken = torch.empty_like(multipliers)
        for group in range(len(gram)):
            members = group_of[many] == group
            taken[members] = multipliers[members] @ inverse[group]
        solved[many] = (rows[many] - taken) * stays[many]
    return solved.reshape(weight.shape).to(weight.dtype)


def _systems(gram: Tensor, group_of: Tensor, target: Tensor, mask: Tensor, memory: int) -> Tensor:
    """Solves `G_mm x_m = t_m` for every output, in turns; x is zero outside the mask."""
    solved, counts = torch.zeros_like(target), mask.sum(1)
    left = counts.argsort()  # outputs of like counts together: their systems are padded to the largest
    while len(left):
        part = left[: max(1, memory // (3 * 8 * max(int(counts[left[-1]]), 1) ** 2))]
        left = left[len(part) :]
        solved[part] = _solve(gram, group_of[part], target[part], mask[part], int(counts[part].max()))
    return solved


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
