"""How the lengths of operators' axes follow the widths of a network, solved from several networks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from amc.errors import ConfigurationError
from amc.structure import Extent

Column = tuple[int, ...]
"""The length of one axis in each of the networks."""

_BLOCKS = (4, 8, 16)
"""What engines pad channels to."""


class ExtentSolver:
    """Finds the affine functions of the widths that axis lengths are."""

    def __init__(self, widths: Sequence[Sequence[int]]) -> None:
        """Prepares the least-squares problem.

        Args:
            widths: The widths of each network, by decision.

        Raises:
            ConfigurationError: If there are too few different networks.
        """
        self._matrix: NDArray[np.float64] = np.array([[1, *row] for row in widths], dtype=np.float64)
        unknowns = self._matrix.shape[1]
        if np.linalg.matrix_rank(self._matrix) < unknowns:
            raise ConfigurationError(
                f"{unknowns - 1} decisions must be told apart by at least {unknowns} networks of different widths, not "
                f"{len(widths)}; profile again with more --networks"
            )
        self._inverse = np.linalg.pinv(self._matrix)
        self._widths = tuple(zip(*widths, strict=True))
        self._known: dict[Column, Extent | None] = {}

    def extent(self, column: Column) -> Extent | None:
        """Returns the extent that has these lengths, None if they are not an affine function of the widths.

        Where an engine pads channels to whole blocks, that of the channels themselves.
        """
        if column not in self._known:
            self._known[column] = self._solve(column)
        return self._known[column]

    def _solve(self, column: Column) -> Extent | None:
        if len(set(column)) == 1:
            return Extent(column[0])
        padded = next((index for index, own in enumerate(self._widths) if _is_padded(column, own)), None)
        if padded is not None:
            return Extent(0, ((padded, 1),))
        solution = np.rint(self._inverse @ np.array(column, dtype=np.float64)).astype(np.int64)
        exact = np.array_equal(self._matrix.astype(np.int64) @ solution, np.array(column, dtype=np.int64))
        if not exact or solution.min() < 0:
            return None
        counts = tuple((index, int(count)) for index, count in enumerate(solution[1:]) if count)
        return Extent(int(solution[0]), counts)


def _is_padded(column: Column, widths: Sequence[int]) -> bool:
    """Returns whether lengths are widths that are rounded up to blocks."""
    return any(
        all(length == -(-width // step) * step for length, width in zip(column, widths, strict=True))
        for step in _BLOCKS
    )
