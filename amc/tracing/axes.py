"""Where the channels lie on the axes of tensors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from amc.tracing.units import ChannelUnits, Labels

AxisKey = tuple[str, int]

Positions = tuple[tuple[int, ...], ...]
"""The positions on an axis of every channel of a group."""


@dataclass(frozen=True)
class Axis:
    """The positions of channels on one axis of one tensor.

    Attributes:
        key: Name of the tensor, and the axis.
        first_label: The smallest label on the axis, which shows when the axis was first seen.
        roots: Every class of labels on the axis, rising.
        counts: How many positions each class has.
        starts: Where the positions of each class start in `positions`.
        positions: All positions, those of one class together and rising.
    """

    key: AxisKey
    first_label: int
    roots: Labels
    counts: Labels
    starts: Labels
    positions: Labels

    @staticmethod
    def of(key: AxisKey, labels: Labels, units: ChannelUnits) -> Axis:
        """Sorts the positions of an axis by the class of their labels."""
        classes = units.find(labels)
        roots, starts, counts = np.unique(np.sort(classes), return_index=True, return_counts=True)
        return Axis(key, int(labels.min()), roots, counts, starts, np.argsort(classes, kind="stable"))

    def of_members(self, members: Labels, known: dict[bytes, Positions]) -> Positions:
        """Returns the positions of every class in `members`, all of which have equally many.

        Args:
            members: Representatives of the classes.
            known: Results so far; equal ones are shared, since most axes of a group are alike.
        """
        found = np.searchsorted(self.roots, members)
        count = int(self.counts[found[0]])
        assert (self.roots[found] == members).all()
        assert (self.counts[found] == count).all()
        places = self.positions[self.starts[found][:, None] + np.arange(count)]
        key = places.shape[1].to_bytes(8, "little") + places.tobytes()
        if key not in known:
            known[key] = tuple(map(tuple, places.tolist()))
        return known[key]
