"""The budget of a search: a metric and its bound."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor, isfinite

from amc.errors import BudgetError


@dataclass(frozen=True)
class Budget:
    """How much the pruned network may cost. Exactly one metric is given.

    A float in (0, 1] is the share of the dense network's cost that is kept; a whole number above 1 is absolute.

    Attributes:
        flops: FLOPs as fvcore counts them (one fused multiply-add is one), for one example input.
        params: Parameters; in weight pruning those that are not zero.

    Raises:
        BudgetError: If none or both are given, or the number is neither a share nor a whole number above 1.
    """

    flops: float | int | None = None
    params: float | int | None = None

    def __post_init__(self) -> None:
        given = {name: value for name, value in (("flops", self.flops), ("params", self.params)) if value is not None}
        if len(given) != 1:
            raise BudgetError(
                f"a budget bounds exactly one of flops and params, not {' and '.join(given) or 'none'}; "
                "for example Budget(flops=0.5)"
            )
        value = self.value
        if not _is_bound(value):
            raise BudgetError(
                f"a budget is a share of the dense network in (0, 1] or a whole number above 1, "
                f"not {self.metric}={value!r}"
            )

    @property
    def metric(self) -> str:
        """Name of the cost that is bounded: `"flops"` or `"params"`."""
        return "flops" if self.flops is not None else "params"

    @property
    def value(self) -> float | int:
        """The bound as it was given."""
        value = self.flops if self.flops is not None else self.params
        assert value is not None
        return value

    def limit(self, dense: int) -> int:
        """Returns the largest cost that meets the budget.

        Args:
            dense: Cost of the dense network.

        Raises:
            BudgetError: If the budget is above the dense cost.
        """
        if self.value <= 1:
            # The decimal that the user wrote is meant, not the binary fraction: 0.29 of 100 is 29, not 28.
            return floor(Fraction(repr(float(self.value))) * dense)
        if self.value > dense:
            raise BudgetError(
                f"the budget {self.metric}={int(self.value):,} is above the dense network's {dense:,}; "
                f"choose less, or a share in (0, 1]"
            )
        return int(self.value)


def _is_bound(value: object) -> bool:
    """Tells whether a value is a share in (0, 1] or a whole number above 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        return False
    return 0 < value <= 1 or (value > 1 and value == int(value))


def feasible_share(cost: int, dense: int) -> float:
    """Returns the smallest share of `dense`, to four decimals, that admits `cost`: for messages."""
    return ceil(Fraction(cost * 10_000, dense)) / 10_000
