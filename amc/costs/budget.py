"""The budget of a search: what the smaller network may cost."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil, floor, isfinite
from numbers import Real
from typing import Any, cast

from amc.costs.metrics import LATENCY, bounded_names, in_words
from amc.errors import BudgetError, UnknownNameError


@dataclass(frozen=True, init=False)
class Budget:
    """How much the pruned network may cost, in one metric or in several at once.

    A number in (0, 1] is the share of the dense network's cost that is kept; a whole number above 1 is absolute. Where
    several metrics are bounded, every one must hold: the bound that is nearest decides.

    A bound on time needs a profile of the device, as `amc profile` writes it: `Budget(latency=0.5, profile=FILE)`.
    Latencies are counted in nanoseconds.

    Attributes:
        bounds: The bounds by metric, as they were given; see `amc.costs.metrics.METRICS` for the names.
        profile: File of the profile of the device and engine that a bound on time is for.

    Example:
        >>> Budget(flops=0.5, params=400_000).limits({"flops": 41_000_001, "params": 600_000})
        {'flops': 20500000, 'params': 400000}
    """

    bounds: Mapping[str, float | int] = field(hash=False)
    profile: str | None = field(default=None, compare=False)

    def __init__(
        self,
        *,
        latency_ms: float | None = None,
        profile: str | os.PathLike[str] | None = None,
        **bounds: float | int | None,
    ) -> None:
        """Takes the bounds.

        Args:
            latency_ms: The latency in milliseconds, in place of `latency`, a share of the dense network's.
            profile: File of a profile of the device, for `latency` or `latency_ms`.
            **bounds: The largest value of each metric; None leaves it unbounded.

        Raises:
            UnknownNameError: If a metric does not exist.
            BudgetError: If none is bounded, or a bound is neither a share nor a whole number above 1.
        """
        given = {name: value for name, value in bounds.items() if value is not None}
        if latency_ms is not None:
            given[LATENCY] = _nanoseconds(latency_ms, LATENCY in given)
        for name, value in given.items():
            if name not in bounded_names():
                raise UnknownNameError("metric", name, bounded_names())
            if not _is_bound(value):
                raise BudgetError(
                    "a budget is a share of the dense network in (0, 1] or a whole number above 1, "
                    f"not {name}={value!r}"
                )
        if not given:
            raise BudgetError("a budget bounds at least one metric; for example Budget(flops=0.5)")
        object.__setattr__(self, "bounds", {name: _plain(given[name]) for name in bounded_names() if name in given})
        object.__setattr__(self, "profile", None if profile is None else os.fspath(profile))

    @classmethod
    def of(cls, bounds: Mapping[str, float | int]) -> Budget:
        """Returns the budget of bounds by metric, as `__init__` takes them by keyword."""
        return cls(**cast(dict[str, Any], dict(bounds)))

    @property
    def metric(self) -> str:
        """Names of the metrics that are bounded, joined by `"+"`: `"flops"`, `"flops+params"`."""
        return "+".join(self.bounds)

    def limits(self, dense: Mapping[str, int]) -> dict[str, int]:
        """Returns the largest costs that meet the budget, by metric.

        Args:
            dense: Costs of the dense network by metric.

        Raises:
            BudgetError: If a bound is above the dense cost.
        """
        return {name: _limit(name, value, dense[name]) for name, value in self.bounds.items()}


def _limit(name: str, value: float | int, dense: int) -> int:
    if value <= 1:
        # Uses the decimal that the user wrote, not its binary fraction: 0.29 of 100 is 29, not 28.
        return floor(Fraction(repr(float(value))) * dense)
    if value > dense:
        asked = f"{int(value):,}" if value < 1e15 else f"{value:g}"
        raise BudgetError(
            f"the budget {name}={asked} is above the dense network's {in_words(name, dense)}; "
            f"choose less, or a share in (0, 1]"
        )
    return int(value)


def _nanoseconds(milliseconds: Any, is_bounded: bool) -> int:
    """Returns a latency as it is counted.

    Raises:
        BudgetError: If it is not positive, or a share is given, too.
    """
    if is_bounded:
        raise BudgetError("a budget bounds the latency once: give latency (a share) or latency_ms, not both")
    if isinstance(milliseconds, bool) or not isinstance(milliseconds, Real) or not 1e-5 <= float(milliseconds) < 1e9:
        raise BudgetError(f"a latency is a number of milliseconds above 0, such as 4.0, not {milliseconds!r}")
    return round(float(milliseconds) * 1e6)


def _is_bound(value: object) -> bool:
    """Returns whether a value is a share in (0, 1] or a whole number above 1."""
    if isinstance(value, bool) or not isinstance(value, Real) or not isfinite(value):
        return False
    number = float(value)
    return 0 < number <= 1 or (number > 1 and number.is_integer())


def _plain(value: Any) -> float | int:
    """Returns NumPy's numbers as Python's: float32's 0.3 means 0.3, not 0.30000001192092896."""
    if isinstance(value, float | int):
        return value
    return int(value) if value > 1 else float(str(value))


def feasible_share(cost: int, dense: int) -> float:
    """Returns the smallest share of `dense`, to four decimals, that admits `cost`: for messages."""
    return ceil(Fraction(cost * 10_000, dense)) / 10_000
