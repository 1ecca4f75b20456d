"""Several budgets at once: every one holds, and none is wasted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amc.costs import Budget
from amc.costs.tightest_cost import TightestCost
from amc.errors import BudgetError
from amc.problem import PruningProblem


def bounded(problem, shares):
    """The same decisions with a budget on both metrics; None where no allocation meets it."""
    try:
        return PruningProblem(problem.decisions, "filter", problem.costs, problem.layers, Budget(**shares))
    except BudgetError:
        return None


@given(st.data(), st.floats(0.2, 1.0), st.floats(0.2, 1.0))
def test_the_projection_meets_every_bound_and_leaves_no_step(problems, data, flops, params):
    problem = bounded(data.draw(problems), {"flops": flops, "params": params})
    if problem is None:
        return
    widths = problem.project([1.0] * len(problem.decisions))
    assert all(problem.cost(widths, metric) <= limit for metric, limit in problem.limits.items())
    for index, decision in enumerate(problem.decisions):
        level = decision.level(widths[index]) + 1
        if level < decision.levels:
            wider = [*widths[:index], decision.width(level), *widths[index + 1 :]]
            assert any(problem.cost(wider, metric) > limit for metric, limit in problem.limits.items())


@given(st.data(), st.floats(0.2, 1.0), st.floats(0.2, 1.0))
def test_a_walk_at_the_upper_bounds_meets_every_bound(problems, data, flops, params):
    problem = bounded(data.draw(problems), {"flops": flops, "params": params})
    if problem is None:
        return
    walk = problem.walk()
    while not walk.done:
        walk.choose(walk.bounds()[1])
    assert all(problem.cost(walk.widths, metric) <= limit for metric, limit in problem.limits.items())


@given(st.data())
def test_the_tracker_follows_the_cost(problems, data):
    problem = data.draw(problems)
    cost = TightestCost(problem.costs, {"flops": 7, "params": 3})
    assert cost.limit == 21
    tracker, widths = cost.track(problem.max_widths), list(problem.max_widths)
    for index, decision in enumerate(problem.decisions):
        assert tracker.cost_with(index, decision.smallest) == cost.cost(
            [*widths[:index], decision.smallest, *widths[index + 1 :]]
        )
        tracker.set_width(index, decision.smallest)
        widths[index] = decision.smallest
        assert tracker.cost == cost.cost(widths)


def test_meeting_the_limit_means_meeting_both():
    """3a and 2b within 10 and 5: of (3, 2) both hold, of (4, 2) the first does not, of (3, 3) the second."""
    from amc.costs import PolynomialCost
    from amc.structure import CostTerm, Extent

    a, b = (Extent(0, ((index, 1),)) for index in range(2))
    models = {
        "flops": PolynomialCost("flops", [CostTerm(3, (a,))], (5, 5)),
        "params": PolynomialCost("params", [CostTerm(2, (b,))], (5, 5)),
    }
    cost = TightestCost(models, {"flops": 10, "params": 5})
    assert (cost.name, cost.limit, cost.dense) == ("flops+params", 50, 100)
    assert [cost.cost(widths) <= cost.limit for widths in ((3, 2), (4, 2), (3, 3))] == [True, False, False]


def test_the_bound_that_cannot_be_met_is_named(make_problem_of_two):
    with pytest.raises(BudgetError, match=r"as little as .* parameters: the smallest feasible budget is params="):
        make_problem_of_two(Budget(flops=1.0, params=0.01))
