"""Least squares restricted to the weights that stay: the values that go with a mask of any criterion."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from amc.pruning.regression.least_squares import NormalEquations

_DIRECT = 768
"""Outputs that keep more weights than this, and lose more, are solved for iteratively: k^3 / 3 multiplications each are
too many."""
_ITERATIONS, _TOLERANCE = 200, 1e-5
_AT_ONCE_BYTES = 1 << 26
"""Systems that are factored at once take no more than this; outputs take turns, at least one at a time."""
_HELD_BYTES = 1 << 28
"""Factors of a layer's systems that take no more than this are held for the next solution."""


class Restriction:
    """Minimises `(w - w_0) G (w - w_0)^T` for every output over the weights that stay, for any `w_0`.

    An output is solved for by Cholesky's method, several together, in as many unknowns as the smaller of what stays and
    what goes: of what goes, it is the multipliers of the conditions `w = 0` (the optimal brain surgeon's joint step).
    Outputs with more than `_DIRECT` of both are solved for by conjugate gradients, all together, to a relative residual
    of 1e-5 or for 200 steps.
    """

    def __init__(self, gram: Tensor, mask: Tensor) -> None:
        """Factors what does not depend on `w_0`.

        Args:
            gram: Second moments of the input, `(groups, d, d)`, positive definite (add a ridge).
            mask: True where a weight stays, `(groups, O / groups, d)`.
        """
        self._gram, self._mask = gram.double(), mask
        stays, size = mask.flatten(0, 1), mask.shape[2]
        counts = stays.sum(1)
        most = counts > size // 2
        self._wide = torch.minimum(counts, size - counts) > _DIRECT
        self._few, self._many = ~most & ~self._wide, most & ~self._wide
        self._group_of = torch.arange(len(counts), device=gram.device) // mask.shape[1]
        self._of_few = _Systems(self._gram, self._group_of[self._few], stays[self._few])
        if self._many.any():
            self._inverse = torch.cholesky_inverse(torch.linalg.cholesky(self._gram))
            self._of_many = _Systems(self._inverse, self._group_of[self._many], ~stays[self._many])

    def solve(self, weight: Tensor) -> Tensor:
        """Returns the weights in the shape and the format of `weight`, zero where the mask is false.

        Args:
            weight: `w_0`, the solution without restriction, `(groups, O / groups, d)`.
        """
        found = weight.double()
        return self._solved(found @ self._gram, lambda: found).to(weight.dtype)

    def of(self, equations: NormalEquations) -> Tensor:
        """Returns the weights for equations with this Gram matrix; where all outputs keep few, without their solution.

        Args:
            equations: In float64.
        """
        return self._solved(equations.right, lambda: equations.solution)

    def _solved(self, right: Tensor, unrestricted: Callable[[], Tensor]) -> Tensor:
        """Returns the weights for `w_0 G`; `unrestricted` returns `w_0`, and is called if that is needed."""
        sides = right.flatten(0, 1)
        solved = torch.zeros_like(sides)
        if self._few.any():
            solved[self._few] = self._of_few.solve(sides[self._few])
        if self._wide.any():
            found = _descend(self._gram, unrestricted(), right, self._mask)
            solved[self._wide] = found.flatten(0, 1)[self._wide]
        if self._many.any():
            solved[self._many] = self._without_most(unrestricted().flatten(0, 1)[self._many])
        return solved.reshape(right.shape)

    def _without_most(self, rows: Tensor) -> Tensor:
        """Returns the rows of `_many` outputs, by the multipliers of what goes."""
        multipliers = self._of_many.solve(rows)
        taken, group_of = torch.empty_like(multipliers), self._group_of[self._many]
        for group in range(len(self._inverse)):
            members = group_of == group
            taken[members] = multipliers[members] @ self._inverse[group]
        return (rows - taken) * self._mask.flatten(0, 1)[self._many]


class _Systems:
    """Solves `G_mm x_m = t_m` for every output, in turns; x is zero outside the mask."""

    def __init__(self, gram: Tensor, group_of: Tensor, mask: Tensor) -> None:
        """Factors the systems, if their factors may be held."""
        self._gram, self._group_of, self._mask = gram, group_of, mask
        self._parts, held, counts = [], 0, mask.sum(1)
        left = counts.argsort()  # outputs of like counts together: their systems are padded to the largest
        while len(left):
            part = left[: max(1, _AT_ONCE_BYTES // (3 * 8 * max(int(counts[left[-1]]), 1) ** 2))]
            left = left[len(part) :]
            self._parts.append(part)
            held += 8 * len(part) * int(counts[part].max()) ** 2
        self._held = [self._factored(part) for part in self._parts] if held <= _HELD_BYTES else None

    def solve(self, target: Tensor) -> Tensor:
        """Solves all systems for their right sides, `(outputs, d)`."""
        solved = torch.zeros_like(target)
        for number, part in enumerate(self._parts):
            places, stays, factor = self._held[number] if self._held is not None else self._factored(part)
            right = target[part].gather(1, places) * stays
            values = torch.cholesky_solve(right[:, :, None], factor)[:, :, 0]
            solved[part] = torch.zeros_like(target[part]).scatter_(1, places, values * stays)
        return solved

    def _factored(self, part: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the unknowns' places, which of them are no padding, and the factors, padded with the identity."""
        mask = self._mask[part]
        places = mask.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, : int(mask.sum(1).max())]
        stays = mask.gather(1, places)
        systems = self._gram[self._group_of[part][:, None, None], places[:, :, None], places[:, None, :]]
        systems *= stays[:, :, None] & stays[:, None, :]
        systems.diagonal(dim1=1, dim2=2).add_(~stays)
        return places, stays, torch.linalg.cholesky(systems)


def _descend(gram: Tensor, weight: Tensor, right: Tensor, mask: Tensor) -> Tensor:
    """Solves all outputs together by conjugate gradients, preconditioned by the Gram matrix's diagonal.

    Args:
        gram: As for `Restriction`.
        weight: `w_0`.
        right: `w_0 G`.
        mask: As for `Restriction`.
    """
    scale = gram.diagonal(dim1=1, dim2=2)[:, None]
    solved = weight * mask
    residual = ((weight - solved) @ gram) * mask
    bound = _TOLERANCE * (right * mask).norm(dim=2, keepdim=True)
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
