from __future__ import annotations

import copy
import pickle

import pytest

from amc.costs import Budget, PolynomialCost
from amc.errors import BudgetError, ConfigurationError, ModelError, UnknownNameError
from amc.problem import Decision, PruningProblem
from amc.structure import Allocation, CostTerm, Extent


def make(make_layer, budget, sizes=(10, 10), terms=None, **fields):
    """Two decisions; cost 10a + ab unless other terms are given: 200 when dense, 11 at the smallest."""
    axes = [Extent(0, ((index, 1),)) for index in range(len(sizes))]
    terms = terms or (CostTerm(10, (axes[0],)), CostTerm(1, (axes[0], axes[1])))
    cost = PolynomialCost("flops", terms, sizes)
    params = PolynomialCost("params", [CostTerm(1, (axis,)) for axis in axes], sizes)
    decisions = tuple(Decision(name, size, **fields) for name, size in zip("abc", sizes, strict=False))
    layers = (make_layer(),) * len(sizes)
    return PruningProblem(decisions, "filter", {"flops": cost, "params": params}, layers, budget)


def test_limits_and_costs(make_layer):
    problem = make(make_layer, Budget(flops=0.5))
    assert (problem.limit, problem.cost(problem.min_widths), problem.cost((5, 5))) == (100, 11, 75)
    assert problem.cost((5, 5), "params") == 10
    assert (problem.metric, problem.dense_widths, problem.min_widths) == ("flops", (10, 10), (1, 1))


def test_bounds_keep_the_budget_feasible_and_unwasted(make_layer):
    problem = make(make_layer, Budget(flops=0.5))
    # 10a + a <= 100 for a <= 9; with b dense 20a <= 100 for a <= 5.
    walk = problem.walk()
    assert walk.bounds() == (5, 9)
    # After a = 8: 80 + 8b <= 100 for b <= 2, and the last decision has no choice left.
    for width, left in ((8, (2, 2)), (5, (10, 10))):
        walk = problem.walk()
        walk.choose(width)
        assert walk.bounds() == left


def test_without_a_budget_only_the_decisions_own_bounds_hold(make_layer):
    problem = make(make_layer, None, min_width=2)
    assert problem.limit is None
    assert problem.walk().bounds() == (2, 10)
    assert problem.project((0.33, 0.0)) == (3, 2)
    assert problem.fill((3, 2)) == (3, 2)


def test_bounds_on_a_hopeless_prefix_say_so(make_layer):
    problem = make(make_layer, Budget(flops=0.5))
    walk = problem.walk()
    walk.choose(10)
    with pytest.raises(ValueError, match=r"\[10\] leave no way to meet the budget of 100"):
        walk.bounds()


def test_a_walk_reports_what_is_saved_and_what_can_be(make_layer):
    walk = make(make_layer, Budget(flops=0.5)).walk()
    # Later decisions can still take b from 10 to 1: 10a + 10a - (10a + a) = 90 at a = 10.
    assert (walk.reduced, walk.removable_later) == (0, 90)
    walk.choose(6)
    assert (walk.reduced, walk.removable_later) == (200 - 120, 0)
    walk.choose(4)
    assert (walk.reduced, walk.removable_later, walk.done) == (200 - 84, 0, True)
    assert walk.widths == (6, 4)


def test_a_walk_never_adds_up_the_whole_network(make_layer, monkeypatch):
    """A step must not take longer in a deeper network: it looks at the terms of its own decision alone."""
    problem = make(make_layer, Budget(flops=0.5))
    walk = problem.walk()
    monkeypatch.setattr(PolynomialCost, "cost", lambda self, widths: pytest.fail("the whole cost was evaluated"))
    monkeypatch.setattr(Extent, "length", lambda self, widths: pytest.fail("an axis was measured anew"))
    while not walk.done:
        low, high = walk.bounds()
        assert low <= high
        assert walk.removable_later + walk.reduced <= 200
        walk.choose(high)


def test_a_walk_refuses_widths_that_are_not_allowed(make_layer):
    walk = make(make_layer, Budget(flops=0.5), step=4).walk()
    with pytest.raises(ValueError, match="6 of 10 is not an allowed width"):
        walk.choose(6)


def test_project_scales_all_ratios_by_one_factor(make_layer):
    # Two independent, equally dear decisions: cost a + b, limit 10 of 20.
    axes = [CostTerm(1, (Extent(0, ((index, 1),)),)) for index in range(2)]
    problem = make(make_layer, Budget(flops=0.5), terms=axes)
    assert problem.project((1.0, 1.0)) == (5, 5)
    assert problem.project((0.2, 0.2)) == (5, 5)
    assert problem.project((0.8, 0.2)) == (8, 2)
    # Capped at dense below, the other takes what is left.
    dense_one = make(make_layer, Budget(flops=0.75), terms=axes)
    assert dense_one.project((1.0, 0.1)) == (10, 5)


def test_project_with_all_ratios_zero_still_spends_the_budget(make_layer):
    axes = [CostTerm(1, (Extent(0, ((index, 1),)),)) for index in range(2)]
    assert make(make_layer, Budget(flops=0.5), terms=axes).project((0.0, 0.0)) == (5, 5)


def test_project_keeps_the_proportions_of_ratios_below_the_smallest_widths(make_layer):
    axes = [CostTerm(1, (Extent(0, ((index, 1),)),)) for index in range(2)]
    problem = make(make_layer, Budget(flops=0.5), sizes=(100, 100), terms=axes, min_width=10)
    assert problem.project((0.8, 0.2)) == problem.project((0.08, 0.02)) == problem.project((8e-4, 2e-4)) == (80, 20)


def test_slopes_are_differences_of_cost_over_those_of_the_keep_ratio(make_layer):
    problem = make(make_layer, Budget(flops=0.5))
    # Cost 10a + ab at (5, 4): 10 + 4 a unit of a, 5 a unit of b, ten units each; the last has no other width.
    assert problem.cost_slopes((5, 4), (3, 10)) == pytest.approx((140, 50))
    assert problem.cost_slopes((5, 4), (7, 4)) == pytest.approx((140, 0))


def test_slopes_are_those_toward_the_smallest_widths_unless_others_are_given(make_layer):
    problem = make(make_layer, Budget(flops=0.5))
    assert problem.cost_slopes((5, 1)) == problem.cost_slopes((5, 1), (1, 10))


def test_fill_never_lowers_a_width_and_spends_what_fits(make_layer):
    problem = make(make_layer, Budget(flops=0.5))
    # From (5, 7), cost 85: a third of the way up in proportion is over; b alone reaches 10 and meets 100 exactly.
    assert problem.fill((5, 7)) == (5, 10)
    assert problem.fill((9, 1)) == (9, 1)
    with pytest.raises(ValueError, match="cost 120 are over the limit of 100; project them"):
        problem.fill((10, 2))


def test_fill_reaches_far_in_few_steps(make_layer):
    """Layers of millions of weights: jumps, not unit steps."""
    sizes = (50_000_000, 3_000_001)
    axes = [CostTerm(cost, (Extent(0, ((index, 1),)),)) for index, cost in enumerate((1, 784))]
    problem = make(make_layer, Budget(flops=0.5), sizes=sizes, terms=axes)
    widths = problem.fill((1, 1))
    assert problem.limit - 1 < problem.cost(widths) <= problem.limit
    assert problem.limit == problem.cost(problem.project((0.3, 0.9)))


def test_round_width_takes_the_nearest(make_layer):
    problem = make(make_layer, None)
    assert [problem.round_width(0, ratio) for ratio in (0.0, 0.44, 0.45, 0.46, 1.0)] == [10, 6, 6, 5, 1]


def test_an_infeasible_budget_names_the_smallest_feasible_one(make_layer):
    with pytest.raises(BudgetError, match=r"as little as 60 FLOPs.* flops=0.3750 \(75 FLOPs of 200 FLOPs\)"):
        make(make_layer, Budget(flops=0.3), min_width=5)
    assert make(make_layer, Budget(flops=0.375), min_width=5).project((1.0, 1.0)) == (5, 5)


def test_a_problem_without_decisions_is_refused(make_layer):
    with pytest.raises(ModelError, match="at least one decision"):
        make(make_layer, None, sizes=(), terms=(CostTerm(5),))


def test_allocations_name_the_widths(make_layer):
    problem = make(make_layer, Budget(flops=0.5))
    allocation = problem.allocation((3, 4))
    assert allocation == Allocation("filter", {"a": 3, "b": 4})
    assert problem.widths(allocation) == (3, 4)
    assert problem.widths(Allocation("filter", {"b": 4})) == (10, 4)


@pytest.mark.parametrize(
    ("allocation", "error", "message"),
    [
        (Allocation("weight", {"a": 3}), ConfigurationError, "of kind 'filter', not 'weight'"),
        (Allocation("filter", {"aa": 3}), UnknownNameError, "unknown decision 'aa'; did you mean 'a'"),
        (Allocation("filter", {"a": 11}), ConfigurationError, "a: kept units must be from 1 to 10, not 11"),
        (Allocation("filter", {"a": 0}), ConfigurationError, "not 0"),
    ],
)
def test_allocations_of_another_network_are_refused(make_layer, allocation, error, message):
    with pytest.raises(error, match=message):
        make(make_layer, None).widths(allocation)


def test_problems_are_copied_and_pickled(make_layer):
    problem = make(make_layer, Budget(flops=0.5))
    for twin in (copy.deepcopy(problem), pickle.loads(pickle.dumps(problem))):
        assert twin.project((0.4, 0.9)) == problem.project((0.4, 0.9))
