"""Exact costs as sums of products of axis lengths, evaluated incrementally."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from amc.structure import CostTerm, Extent, ModelStructure


class PolynomialCost:
    """A cost that is a sum of `CostTerm`, indexed by decision.

    All arithmetic is in Python integers, so costs are exact whatever their size. Terms with the same factors are
    merged, and each decision knows the terms and axes that it touches: changing one width costs time in proportion
    to those alone, whatever the depth of the network.

    Attributes:
        name: What is counted, for example `"flops"`.
        dense: Cost of the dense network.
        dense_widths: Width of every decision in the dense network.
    """

    def __init__(self, name: str, terms: Sequence[CostTerm], dense_widths: Sequence[int]) -> None:
        """Merges the terms and indexes them by decision.

        Args:
            name: What is counted.
            terms: The terms; extents are indexed by decision, coefficients and constants are not negative.
            dense_widths: Width of every decision in the dense network.
        """
        self.name = name
        self.dense_widths = tuple(dense_widths)
        self._constant, merged = _merge(terms)
        axes = {axis: number for number, axis in enumerate(dict.fromkeys(a for factors in merged for a in factors))}
        self._axes = tuple(axes)
        self._terms = [(coefficient, tuple(axes[a] for a in factors)) for factors, coefficient in merged.items()]
        self._touched = [_touched(index, self._axes, self._terms) for index in range(len(self.dense_widths))]
        self.dense = self.cost(self.dense_widths)

    def cost(self, widths: Sequence[int]) -> int:
        """Returns the cost when decision i keeps `widths[i]` units."""
        return self._total([axis.length(widths) for axis in self._axes])

    def track(self, widths: Sequence[int]) -> PolynomialTracker:
        """Returns a tracker that starts from `widths`."""
        lengths = [axis.length(widths) for axis in self._axes]
        return PolynomialTracker(self._terms, self._touched, list(widths), lengths, self._total(lengths))

    def _total(self, lengths: Sequence[int]) -> int:
        return self._constant + sum(
            coefficient * prod([lengths[axis] for axis in axes]) for coefficient, axes in self._terms
        )


@dataclass(frozen=True)
class _Touched:
    """The terms (by number) and the axes (number, positions per unit) that depend on one decision."""

    terms: tuple[int, ...]
    axes: dict[int, int]


class PolynomialTracker:
    """The cost of one allocation that changes a decision at a time; see `PolynomialCost.track`."""

    def __init__(
        self,
        terms: Sequence[tuple[int, tuple[int, ...]]],
        touched: Sequence[_Touched],
        widths: list[int],
        lengths: list[int],
        cost: int,
    ) -> None:
        """Takes over `widths`, the `lengths` of the axes and the `cost` that belong to each other."""
        self._terms, self._touched = terms, touched
        self._widths, self._lengths, self._cost = widths, lengths, cost
        self._curves: dict[int, tuple[int, ...]] = {}

    @property
    def cost(self) -> int:
        """Cost of the current widths."""
        return self._cost

    def cost_with(self, index: int, width: int) -> int:
        """Returns what the cost would be if decision `index` kept `width` units."""
        if index not in self._curves:
            self._curves[index] = self._curve(index)
        value = 0
        for coefficient in reversed(self._curves[index]):
            value = value * width + coefficient
        return value

    def set_width(self, index: int, width: int) -> None:
        """Sets decision `index` to keep `width` units."""
        self._cost = self.cost_with(index, width)
        change = width - self._widths[index]
        self._widths[index] = width
        for axis, count in self._touched[index].axes.items():
            self._lengths[axis] += count * change
        # The curve of this decision holds for any width of its own; those of the others may have moved.
        self._curves = {index: self._curves[index]}

    def _curve(self, index: int) -> tuple[int, ...]:
        """Returns the cost as a polynomial in the width of one decision, by rising power."""
        own = self._touched[index]
        width = self._widths[index]
        total: list[int] = [self._cost]
        for number in own.terms:
            coefficient, axes = self._terms[number]
            curve = [coefficient]
            for axis in axes:
                slope = own.axes.get(axis, 0)
                curve = _times_affine(curve, self._lengths[axis] - slope * width, slope)
            total[0] -= coefficient * prod([self._lengths[axis] for axis in axes])
            total.extend([0] * (len(curve) - len(total)))
            for power, value in enumerate(curve):
                total[power] += value
        return tuple(total)


def _times_affine(curve: list[int], constant: int, slope: int) -> list[int]:
    """Multiplies a polynomial by `constant + slope * x`."""
    scaled = [value * constant for value in curve]
    if not slope:
        return scaled
    scaled.append(0)
    for power, value in enumerate(curve):
        scaled[power + 1] += value * slope
    return scaled


def _merge(terms: Sequence[CostTerm]) -> tuple[int, dict[tuple[Extent, ...], int]]:
    """Folds constant factors into the coefficients and adds up terms with the same factors."""
    constant, merged = 0, dict[tuple[Extent, ...], int]()
    for term in terms:
        assert min([term.coefficient, *(f.constant for f in term.factors)]) >= 0, "a cost must not fall with width"
        varying = sorted((f for f in term.factors if f.counts), key=lambda f: (f.counts, f.constant))
        coefficient = term.coefficient * prod(f.constant for f in term.factors if not f.counts)
        if varying:
            merged[tuple(varying)] = merged.get(tuple(varying), 0) + coefficient
        else:
            constant += coefficient
    return constant, merged


def _touched(index: int, axes: Sequence[Extent], terms: Sequence[tuple[int, tuple[int, ...]]]) -> _Touched:
    own = {number: count for number, axis in enumerate(axes) for decision, count in axis.counts if decision == index}
    return _Touched(tuple(n for n, (_, factors) in enumerate(terms) if not own.keys().isdisjoint(factors)), own)


def channel_cost(
    name: str, terms: Sequence[CostTerm], structure: ModelStructure, groups: Sequence[int]
) -> PolynomialCost:
    """Builds a cost by kept channels; groups that are not decided count with their dense width.

    Args:
        name: What is counted.
        terms: The terms of the whole network, indexed by channel group.
        structure: The traced network.
        groups: Index of the channel group that each decision is about.
    """
    position = {group: index for index, group in enumerate(groups)}
    dense = structure.dense_widths

    def reindexed(extent: Extent) -> Extent:
        fixed = sum(count * dense[group] for group, count in extent.counts if group not in position)
        counts = tuple((position[group], count) for group, count in extent.counts if group in position)
        return Extent(extent.constant + fixed, counts)

    decided = [CostTerm(term.coefficient, tuple(reindexed(factor) for factor in term.factors)) for term in terms]
    return PolynomialCost(name, decided, [structure.groups[group].channels for group in groups])


def weight_cost(
    name: str, dense: int, structure: ModelStructure, layers: Sequence[int], unit_costs: Sequence[int]
) -> PolynomialCost:
    """Builds a cost that falls by a layer's unit cost with every weight that goes.

    Args:
        name: What is counted.
        dense: Cost of the dense network.
        structure: The traced network.
        layers: Index of the layer that each decision is about.
        unit_costs: What one weight of each of these layers costs.
    """
    sizes = [prod(structure.layers[index].weight_shape) for index in layers]
    constant = dense - sum(cost * size for cost, size in zip(unit_costs, sizes, strict=True))
    terms = [CostTerm(cost, (Extent(0, ((index, 1),)),)) for index, cost in enumerate(unit_costs)]
    return PolynomialCost(name, [CostTerm(constant), *terms], sizes)
