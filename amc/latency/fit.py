"""Fits a latency, as a function of the widths, to a profile.

Each operator's time is a sum of non-negative multiples of 1, of its varying axes and of their products, with axes
rounded up to steps (fitted by non-negative least squares): it rises in steps and never falls with a width, since
kernels compute in blocks. The sum over operators is then scaled to the times of whole networks, which include the
overhead between operators.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from amc.costs.solved_extents import Column, ExtentSolver
from amc.costs.stepped_cost import SteppedAxis, SteppedCost
from amc.errors import ConfigurationError
from amc.latency.profile_file import Network, Operator, Profile
from amc.structure import Extent

_PICO = 1_000
"""Picoseconds in a nanosecond: coefficients are kept in picoseconds, costs in nanoseconds."""
_ITERATIONS, _SCALE = 20, 0.05
"""Steps of the robust fit, and the usual error as a share of the time."""
_PICO_PER_US = 1_000_000
_CLEARLY = 0.98
"""A coarser step is chosen if it leaves less than this share of a finer one's error."""
_MOST_AXES = 3
"""Most varying axes of an operator that count singly; of more, as in a long concatenation, only the longest does."""
_DENSE_WEIGHT = 5.0
"""Weight of the dense network's equation: its squared error counts 25-fold, since shares refer to it."""
_STEPS = (1, 4, 8, 16)


@dataclass(frozen=True)
class FittedLatency:
    """A latency in nanoseconds, as a function of the widths of all decisions of a profile.

    Attributes:
        names: The decisions, in order.
        sizes: Their units in the dense network.
        constant: The part that does not depend on the widths, in picoseconds.
        terms: Coefficients in picoseconds by axes, indexed by decision.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    constant: int
    terms: Mapping[tuple[SteppedAxis, ...], int]

    def predicted_ns(self, widths: Mapping[str, int]) -> int:
        """Returns the latency where some decisions keep fewer units than all."""
        chosen = [widths.get(name, size) for name, size in zip(self.names, self.sizes, strict=True)]
        return SteppedCost("latency", self.constant, self.terms, self.sizes, _PICO).cost(chosen)

    def cost_of(self, decided: Sequence[str], sizes: Sequence[int]) -> SteppedCost:
        """Returns the latency as a function of some decisions' widths, all others dense.

        Args:
            decided: Names of the decisions, in the order of the widths.
            sizes: Their units in the dense network.
        """
        position = {name: index for index, name in enumerate(decided)}
        terms: dict[tuple[SteppedAxis, ...], int] = {}
        constant = self.constant
        for axes, coefficient in self.terms.items():
            moved = tuple(SteppedAxis(self._reindexed(axis.extent, position), axis.step) for axis in axes)
            if any(axis.extent.counts for axis in moved):
                terms[moved] = terms.get(moved, 0) + coefficient
            else:
                constant += coefficient * int(np.prod([axis.steps(()) for axis in moved]))
        return SteppedCost("latency", constant, terms, sizes, _PICO)

    def _reindexed(self, extent: Extent, position: Mapping[str, int]) -> Extent:
        fixed = sum(count * self.sizes[index] for index, count in extent.counts if self.names[index] not in position)
        counts = [(position[self.names[i]], count) for i, count in extent.counts if self.names[i] in position]
        return Extent(extent.constant + fixed, tuple(sorted(counts)))


def fit_latency(profile: Profile) -> FittedLatency:
    """Fits a latency to the networks of a profile with the role `"fit"`.

    Raises:
        ConfigurationError: If there are too few, or their operators differ too much to be told apart.
    """
    networks = profile.of_role("dense", "fit")
    widths = [[network.widths.get(name, size) for name, size in profile.decisions.items()] for network in networks]
    solver = ExtentSolver(widths)
    drift = np.array([profile.dense_ms / max(network.dense[0], 1e-9) for network in networks])
    merged: dict[tuple[SteppedAxis, ...], float] = {}
    sums = np.zeros(len(networks))
    for operators in _common_operators(networks):
        columns = _varying([operator.shape for operator in operators], solver)
        if columns is None:
            continue
        times = np.array([operator.us[0] for operator in operators]) * drift
        fitted, predicted = _fit_operator(columns, solver, times)
        sums += predicted
        for axes, coefficient in fitted.items():
            merged[axes] = merged.get(axes, 0.0) + coefficient
    scale, rest_us = _scaled(sums, networks, profile.dense_ms)
    terms = {axes: round(_PICO_PER_US * scale * value) for axes, value in merged.items() if axes}
    constant = round(_PICO_PER_US * (rest_us + scale * merged.get((), 0.0)))
    names, sizes = tuple(profile.decisions), tuple(profile.decisions.values())
    return FittedLatency(names, sizes, constant, {axes: value for axes, value in terms.items() if value})


def _common_operators(networks: Sequence[Network]) -> list[list[Operator]]:
    """Returns the operators that all networks have in common, each with its measurements in every network.

    Raises:
        ConfigurationError: If there is none.
    """
    tables = [{operator.name: operator for operator in network.operators} for network in networks]
    shared = [name for name in tables[0] if all(name in table for table in tables[1:])]
    if not shared:
        raise ConfigurationError("the networks of the profile must share operators, and have none; profile again")
    return [[table[name] for table in tables] for name in shared]


def _varying(shapes: Sequence[Sequence[int]], solver: ExtentSolver) -> list[Column] | None:
    """Returns the lengths of an operator's varying axes, each once; None if one is not a function of the widths."""
    if len({len(shape) for shape in shapes}) != 1:
        return None
    columns: list[Column] = list(dict.fromkeys(zip(*shapes, strict=True)))
    varying = [column for column in columns if len(set(column)) > 1]
    if any(solver.extent(column) is None for column in varying):
        return None
    return varying if len(varying) <= _MOST_AXES else [max(varying, key=sum)]


def _fit_operator(
    columns: Sequence[Column], solver: ExtentSolver, times: NDArray[np.float64]
) -> tuple[dict[tuple[SteppedAxis, ...], float], NDArray[np.float64]]:
    """Fits an operator's time to its axes, with the step that fits best.

    Args:
        columns: Lengths of its varying axes.
        solver: Solves for their extents.
        times: Microseconds in each network.

    Returns:
        Microseconds by axes, and what they add up to in each network.
    """
    extents = [solver.extent(column) for column in columns]
    picked = [choice for count in range(3) for choice in combinations(range(len(columns)), count)]
    best: tuple[float, int, NDArray[np.float64], NDArray[np.float64]] | None = None
    for step in _STEPS if columns else _STEPS[:1]:
        lengths = [-(-np.array(column, dtype=np.float64) // step) for column in columns]
        features = np.stack(
            [np.prod([lengths[i] for i in choice] or [np.ones(len(times))], axis=0) for choice in picked]
        )
        values, residual = _least_deviations(features.T, times)
        if best is None or residual < best[0] * _CLEARLY:
            best = (float(residual), step, values, values @ features)
    assert best is not None
    _, step, values, predicted = best
    terms = {
        tuple(SteppedAxis(extent, step) for i in choice if (extent := extents[i]) is not None): float(value)
        for choice, value in zip(picked, values, strict=True)
        if value > 0
    }
    return terms, predicted


def _least_deviations(features: NDArray[np.float64], times: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Returns non-negative coefficients that fit most times closely, and the capped sum of the differences.

    Only most, since an operator that was interrupted may take a hundred times as long. Solved by iteratively reweighted
    least squares, with the loss of a Cauchy distribution.
    """
    scale = _SCALE * float(np.median(times)) + 1e-9
    weights = 1 / np.maximum(times, scale)
    for _ in range(_ITERATIONS):
        values = _non_negative(features * weights[:, None], times * weights)
        errors = np.abs(features @ values - times)
        weights = 1 / np.hypot(errors, scale)
    return values, float(np.minimum(errors, 10 * scale).sum())


def _non_negative(features: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the non-negative coefficients of least squared error."""
    from scipy.optimize import nnls  # takes long to load, which every command would wait for

    found: NDArray[np.float64] = nnls(features, values)[0]
    return found


def _scaled(sums: NDArray[np.float64], networks: Sequence[Network], dense_ms: float) -> tuple[float, float]:
    """Returns the factor and the offset (microseconds) that turn sums over operators into times of whole networks."""
    whole = np.array([network.ratio * dense_ms * 1e3 for network in networks])
    weights = np.array([_DENSE_WEIGHT if network.role == "dense" else 1.0 for network in networks]) / whole
    scale, rest = _non_negative(np.stack([sums, np.ones(len(sums))], axis=1) * weights[:, None], whole * weights)
    return float(scale), float(rest)
