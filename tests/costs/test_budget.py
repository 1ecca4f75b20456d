from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amc.costs import Budget
from amc.errors import BudgetError


@pytest.mark.parametrize(
    ("budget", "metric", "limit"),
    [
        (Budget(flops=0.5), "flops", 50),
        (Budget(params=0.29), "params", 29),  # 0.29 * 100 is 28.999999999999996 in binary
        (Budget(flops=1.0), "flops", 101),
        (Budget(flops=1), "flops", 101),
        (Budget(params=60), "params", 60),
        (Budget(params=6e1), "params", 60),
    ],
)
def test_limit_is_a_share_rounded_down_or_absolute(budget, metric, limit):
    assert budget.metric == metric
    assert budget.limit(101) == limit


@pytest.mark.parametrize(("values", "shown"), [({}, "none"), ({"flops": 0.5, "params": 0.5}, "flops and params")])
def test_exactly_one_metric_is_bounded(values, shown):
    with pytest.raises(BudgetError, match=f"exactly one of flops and params, not {shown}"):
        Budget(**values)


@pytest.mark.parametrize("value", [0, 0.0, -0.5, -100, 1.5, float("nan"), float("inf"), True, "half"])
def test_numbers_that_mean_nothing_are_refused(value):
    with pytest.raises(BudgetError, match="a share of the dense network"):
        Budget(flops=value)


def test_a_budget_above_the_dense_cost_is_refused():
    with pytest.raises(BudgetError, match="flops=1,001 is above the dense network's 1,000"):
        Budget(flops=1001).limit(1000)


@given(share=st.floats(1e-6, 1.0), dense=st.integers(1, 10**18))
def test_a_share_is_never_exceeded(share, dense):
    assert 0 <= Budget(flops=share).limit(dense) <= dense
