from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amc.costs import Budget
from amc.errors import BudgetError, UnknownNameError


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
    assert budget.limits({"flops": 101, "params": 101}) == {metric: limit}


def test_several_metrics_may_be_bounded_at_once():
    budget = Budget(params=0.4, flops=0.5)
    assert budget.metric == "flops+params"
    assert budget.limits({"flops": 1000, "params": 100}) == {"flops": 500, "params": 40}


@pytest.mark.parametrize("bounds", [{}, {"flops": None}])
def test_at_least_one_metric_is_bounded(bounds):
    with pytest.raises(BudgetError, match="bounds at least one metric"):
        Budget(**bounds)


def test_a_metric_that_does_not_exist_is_named_with_its_nearest():
    with pytest.raises(UnknownNameError, match="unknown metric 'flop'; did you mean 'flops'"):
        Budget(flop=0.5)


@pytest.mark.parametrize("value", [np.float32(0.3), np.float64(0.3), np.int64(300)])
def test_numbers_of_numpy_are_taken_as_they_read(value):
    assert Budget(flops=value).limits({"flops": 1000}) == {"flops": 300}


@pytest.mark.parametrize("value", [0, 0.0, -0.5, -100, 1.5, float("nan"), float("inf"), True, "half"])
def test_numbers_that_mean_nothing_are_refused(value):
    with pytest.raises(BudgetError, match="a share of the dense network"):
        Budget(flops=value)


def test_a_budget_above_the_dense_cost_is_refused():
    with pytest.raises(BudgetError, match="flops=1,001 is above the dense network's 1,000"):
        Budget(flops=1001).limits({"flops": 1000})
    with pytest.raises(BudgetError, match=r"flops=1e\+30 is above"):
        Budget(flops=1e30).limits({"flops": 1000})


@given(share=st.floats(1e-6, 1.0), dense=st.integers(1, 10**18))
def test_a_share_is_never_exceeded(share, dense):
    assert 0 <= Budget(flops=share).limits({"flops": dense})["flops"] <= dense
