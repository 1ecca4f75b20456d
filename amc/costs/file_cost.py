"""The size of a file as a cost model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from amc.utils.file_layout import Whole


class FileSize(Protocol):
    """The size of a file as a function of the widths."""

    def size(self, widths: Whole) -> int:
        """Returns the bytes when decision i keeps `widths[i]` units."""
        ...


class FileCost:
    """The size of a file as a cost model; see `amc.costs.cost_model.CostModel`.

    Attributes:
        name: The metric's name.
        dense: Bytes of the dense network's file.
    """

    def __init__(self, name: str, file: FileSize, dense_widths: Sequence[int]) -> None:
        """Takes what computes the size, and the widths of the dense network."""
        self.name, self._file = name, file
        self.dense = file.size(np.array(dense_widths, dtype=np.int64))

    def cost(self, widths: Sequence[int]) -> int:
        """Returns the bytes when decision i keeps `widths[i]` units."""
        return self._file.size(np.array(widths, dtype=np.int64))

    def track(self, widths: Sequence[int]) -> FileTracker:
        """Returns a tracker that starts from `widths`."""
        return FileTracker(self._file, widths)


class FileTracker:
    """The size of a file while one decision changes at a time; see `amc.costs.cost_model.CostTracker`."""

    def __init__(self, file: FileSize, widths: Sequence[int]) -> None:
        """Starts from some widths."""
        self._file, self._widths = file, np.array(widths, dtype=np.int64)

    @property
    def cost(self) -> int:
        """Bytes at the current widths."""
        return self._file.size(self._widths)

    def cost_with(self, index: int, width: int) -> int:
        """Returns what the bytes would be if decision `index` kept `width` units."""
        widths = self._widths.copy()
        widths[index] = width
        return self._file.size(widths)

    def set_width(self, index: int, width: int) -> None:
        """Sets decision `index` to keep `width` units."""
        self._widths[index] = width
