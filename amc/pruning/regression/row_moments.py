"""First and second moments of rows, summed batch by batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Product = Callable[[Tensor, Tensor], Tensor]
"""Sums products over rows: of `(groups, rows, d)` and `(groups, rows, k)`."""


_STRIPS, _NARROWEST = 6, 96
"""Strips of a symmetric product, and the fewest features of one."""


def outer(rows: Tensor, others: Tensor) -> Tensor:
    """Sums the outer products of rows, `(groups, d, k)`."""
    if others is rows and rows.shape[2] >= 2 * _NARROWEST:
        return _with_themselves(rows)
    return rows.transpose(1, 2) @ others


def _with_themselves(rows: Tensor) -> Tensor:
    """Sums the outer products of rows with themselves: strips of the lower triangle, which are the upper one, too."""
    groups, _, size = rows.shape
    width = max(_NARROWEST, -(-size // _STRIPS))
    sums = rows.new_empty(groups, size, size)
    for first in range(0, size, width):
        last = min(first + width, size)
        strip = rows[:, :, first:last].transpose(1, 2) @ rows[:, :, :last]
        sums[:, first:last, :last] = strip
        sums[:, :first, first:last] = strip[:, :, :first].transpose(1, 2)
    return sums


def diagonal_blocks(size: int) -> Product:
    """Returns what sums the diagonal blocks of the outer products alone, `(groups, d / size, size, size)`."""

    def blocks(rows: Tensor, others: Tensor) -> Tensor:
        if size == 1:  # linear layers: thousands of 1 x 1 products are slow as a batched product
            return (rows * others).sum(1)[..., None, None]
        left, right = (part.reshape(*part.shape[:2], -1, size).permute(0, 2, 3, 1) for part in (rows, others))
        return left @ right.transpose(2, 3)

    return blocks


class CrossMoments:
    """Averages products of rows with rows of another kind, and the latter.

    Attributes:
        rows: How many rows were added.
    """

    def __init__(self, product: Product = outer, dtype: torch.dtype = torch.float32) -> None:
        """Starts empty.

        Args:
            product: Sums the products of a batch; computed in the rows' own number format.
            dtype: Number format of the sums.
        """
        self._product, self._dtype = product, dtype
        self._sums: list[Tensor] = []
        self.rows = 0

    def add(self, rows: Tensor, others: Tensor) -> None:
        """Adds rows `(groups, rows, d)` and those they are multiplied with, `(groups, rows, k)`."""
        new = [part.to(self._dtype) for part in self._sums_of(rows, others)]
        self._sums = [old.add_(part) for old, part in zip(self._sums, new, strict=True)] if self._sums else new
        self.rows += rows.shape[1]

    def _sums_of(self, rows: Tensor, others: Tensor) -> list[Tensor]:
        """Returns what is added up."""
        return [self._product(rows, others), others.sum(1)]

    @property
    def products(self) -> Tensor:
        """The average of the products."""
        return self._sums[0] / self.rows

    @property
    def other_mean(self) -> Tensor:
        """The mean of the rows they are multiplied with, `(groups, k)`."""
        return self._sums[1] / self.rows


class RowMoments(CrossMoments):
    """Averages rows, and the products of rows with rows of the same or another kind."""

    def _sums_of(self, rows: Tensor, others: Tensor) -> list[Tensor]:
        """Returns what is added up, with the rows themselves."""
        sums = super()._sums_of(rows, others)
        return [*sums, sums[1].clone() if others is rows else rows.sum(1)]

    @property
    def mean(self) -> Tensor:
        """The mean row, `(groups, d)`."""
        return self._sums[2] / self.rows
