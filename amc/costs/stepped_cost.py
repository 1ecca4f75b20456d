"""Costs that rise in steps: sums of products of axis lengths, each rounded up to what a device computes at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

from amc.structure import Extent


@dataclass(frozen=True)
class SteppedAxis:
    """The length of an axis in steps, rounded up.

    Attributes:
        extent: The length, indexed by decision.
        step: Positions that the device computes at once.
    """

    extent: Extent
    step: int

    def steps(self, widths: Sequence[int]) -> int:
        """Returns how many steps the axis takes when decision i keeps `widths[i]` units."""
        return -(-self.extent.length(widths) // self.step)


class SteppedCost:
    """A cost that is a constant and a sum of terms: a coefficient times the steps of some axes.

    No coefficient is negative, so that it never falls when a width rises. It is kept in integers of a finer unit, of
    which `scale` make one of the cost, and rounded down: exact, and the same on every machine.

    Attributes:
        name: What is counted, for example `"latency"`.
        dense: Cost of the dense network.
        dense_widths: Width of every decision in the dense network.
    """

    def __init__(
        self,
        name: str,
        constant: int,
        terms: Mapping[tuple[SteppedAxis, ...], int],
        dense_widths: Sequence[int],
        scale: int = 1,
    ) -> None:
        """Indexes the terms by decision.

        Args:
            name: What is counted.
            constant: What does not depend on the widths, in the finer unit.
            terms: Coefficients in the finer unit, by the axes whose steps are multiplied.
            dense_widths: Width of every decision in the dense network.
            scale: How much of the finer unit makes one of the cost.
        """
        assert constant >= 0, "a cost must not be negative"
        assert min(terms.values(), default=0) >= 0, "a cost must not fall with width"
        self.name, self.dense_widths = name, tuple(dense_widths)
        self.constant, self.terms, self.scale = constant, tuple(terms.items()), scale
        self.touched = tuple(
            tuple(number for number, (axes, _) in enumerate(self.terms) if _depends(axes, index))
            for index in range(len(self.dense_widths))
        )
        self.dense = self.cost(self.dense_widths)

    def cost(self, widths: Sequence[int]) -> int:
        """Returns the cost when decision i keeps `widths[i]` units."""
        return (self.constant + sum(self.term(number, widths) for number in range(len(self.terms)))) // self.scale

    def term(self, number: int, widths: Sequence[int]) -> int:
        """Returns what one term costs, in the finer unit."""
        axes, coefficient = self.terms[number]
        return coefficient * prod([axis.steps(widths) for axis in axes])

    def track(self, widths: Sequence[int]) -> SteppedTracker:
        """Returns a tracker that starts from `widths`."""
        return SteppedTracker(self, widths)


class SteppedTracker:
    """The cost of one allocation that changes a decision at a time; see `SteppedCost.track`."""

    def __init__(self, cost: SteppedCost, widths: Sequence[int]) -> None:
        """Computes every term once."""
        self._model, self._widths = cost, list(widths)
        self._parts = [cost.term(number, widths) for number in range(len(cost.terms))]
        self._total = cost.constant + sum(self._parts)

    @property
    def cost(self) -> int:
        """Cost of the current widths."""
        return self._total // self._model.scale

    def cost_with(self, index: int, width: int) -> int:
        """Returns what the cost would be if decision `index` kept `width` units."""
        return (self._total + sum(new - self._parts[number] for number, new in self._changed(index, width))) // (
            self._model.scale
        )

    def set_width(self, index: int, width: int) -> None:
        """Sets decision `index` to keep `width` units."""
        for number, new in self._changed(index, width):
            self._total += new - self._parts[number]
            self._parts[number] = new
        self._widths[index] = width

    def _changed(self, index: int, width: int) -> list[tuple[int, int]]:
        """Returns the terms that a decision touches, with their costs at another width."""
        before, self._widths[index] = self._widths[index], width
        found = [(number, self._model.term(number, self._widths)) for number in self._model.touched[index]]
        self._widths[index] = before
        return found


def _depends(axes: Sequence[SteppedAxis], index: int) -> bool:
    return any(decision == index for axis in axes for decision, _ in axis.extent.counts)
