"""Channel units: a union-find over labels that stand for channels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.int64]

NEUTRAL = 0
"""The label of elements that belong to no channel: constants, masks, random noise."""


class ChannelUnits:
    """Labels, their classes, and why some classes must not be cut.

    Every channel that a layer writes starts as a label of its own. Operators merge the labels of channels that must
    go together. A class that must stay is frozen with a reason. Some labels are fixed from birth: they stand for
    positions that the network's code relies on (its inputs, zero padding along channels); labels that meet them are
    frozen but not merged with them, so that unrelated channels stay apart.
    """

    def __init__(self) -> None:
        """Creates an empty set of units."""
        self._parent: Labels = np.arange(1024, dtype=np.int64)
        self._is_fixed, self._is_noted = (np.zeros(1024, dtype=np.bool_) for _ in range(2))
        self._count = 1
        self._fixed: dict[int, str] = {}
        self._reasons: dict[int, str] = {}
        self._marks: dict[str, set[int]] = {"residual": set(), "normalised": set(), "heads": set()}

    @property
    def count(self) -> int:
        """How many labels there are, the neutral one included."""
        return self._count

    def new(self, count: int) -> Labels:
        """Returns `count` fresh labels."""
        first, self._count = self._count, self._count + count
        if self._count > len(self._parent):
            grown = np.arange(max(self._count, 2 * len(self._parent)), dtype=np.int64)
            grown[:first] = self._parent[:first]
            self._parent = grown
            self._is_fixed, self._is_noted = (_grown(flags, len(grown)) for flags in (self._is_fixed, self._is_noted))
        return np.arange(first, self._count, dtype=np.int64)

    def new_fixed(self, reason: str) -> int:
        """Returns a label that freezes whatever it meets."""
        label = int(self.new(1)[0])
        self._fixed[label], self._is_fixed[label] = reason, True
        return label

    def any_fixed(self, labels: Any) -> bool:
        """Returns whether any of some labels is fixed from birth."""
        return bool(self._is_fixed[self.find(labels)].any())

    def find(self, labels: Any) -> Labels:
        """Returns the representative of each label's class, in the same shape."""
        roots = np.asarray(labels, dtype=np.int64)
        while True:
            parents = self._parent[roots]
            if np.array_equal(parents, roots):
                return roots
            roots = parents

    def union(self, left: Any, right: Any) -> None:
        """Merges the classes of labels pairwise (shapes broadcast); neutral labels merge with nothing."""
        first, second = (side.ravel() for side in np.broadcast_arrays(self.find(left), self.find(right)))
        apart = (first != second) & (first != NEUTRAL) & (second != NEUTRAL)
        first, second = first[apart], second[apart]
        meets = self._is_fixed[first] | self._is_fixed[second]
        if meets.any():
            self._freeze_fixed(first[meets], second[meets])
            first, second = first[~meets], second[~meets]
        self._merge(first, second)

    def _freeze_fixed(self, first: Labels, second: Labels) -> None:
        """Freezes, in pairs with a fixed label, the other one; fixed labels merge with nothing."""
        for pair in np.unique(np.stack([first, second]), axis=1).T.tolist():
            label, other = pair if pair[0] in self._fixed else pair[::-1]
            self.freeze(other, self._fixed[label])

    def _merge(self, first: Labels, second: Labels) -> None:
        """Merges representatives pairwise, vectorised: networks have weights of millions of elements.

        Every representative goes under the smallest that it is paired with; pairs that are still apart then take
        another turn. Two streams that are summed take one turn. Nothing is sorted, which would take far longer.
        """
        while len(first):
            low, high = np.minimum(first, second), np.maximum(first, second)
            np.minimum.at(self._parent, high, low)
            for child in np.unique(high[self._is_noted[high]]).tolist():
                self._pass_notes(child)
            low, high = self.find(low), self.find(high)
            first, second = low[low != high], high[low != high]

    def _pass_notes(self, child: int) -> None:
        """Copies what is known about a representative to the one that it was put under."""
        root = int(self.find(child))
        self._is_noted[root] = True
        if child in self._reasons:
            self._reasons.setdefault(root, self._reasons.pop(child))
        for marked in self._marks.values():
            if child in marked:
                marked.add(root)

    def freeze(self, labels: Any, reason: str) -> None:
        """Marks the classes of some labels as not to be cut; the first reason stays."""
        for root in np.unique(self.find(labels)).tolist():
            if root != NEUTRAL and root not in self._fixed:
                self._reasons.setdefault(root, reason)
                self._is_noted[root] = True

    def mark(self, labels: Any, note: str) -> None:
        """Adds a note to the classes of some labels; the note stays when classes merge.

        Args:
            labels: The labels.
            note: `"heads"` (they are attention heads), `"residual"` (several layers are summed into them) or
                `"normalised"` (a statistic over all channels is taken, so that a cut changes what the rest see).
        """
        roots = np.unique(self.find(labels))
        self._is_noted[roots] = True
        self._marks[note].update(roots.tolist())

    def marked(self, labels: Any, note: str) -> bool:
        """Returns whether any of the labels' classes carries a note."""
        return not self._marks[note].isdisjoint(np.unique(self.find(labels)).tolist())

    def reason(self, root: int) -> str | None:
        """Returns why a class must stay, or None."""
        return self._fixed.get(root) or self._reasons.get(root)


def _grown(flags: npt.NDArray[np.bool_], length: int) -> npt.NDArray[np.bool_]:
    grown = np.zeros(length, dtype=np.bool_)
    grown[: len(flags)] = flags
    return grown
