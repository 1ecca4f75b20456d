from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amc.costs import PolynomialCost
from amc.structure import CostTerm, Extent

# A 3x3 convolution of 3 -> a channels on 8x8 positions, batch norm on it, and a 1x1 convolution a -> 2b.
TERMS = (
    CostTerm(9 * 64, (Extent(3), Extent(0, ((0, 1),)))),
    CostTerm(2 * 64, (Extent(0, ((0, 1),)),)),
    CostTerm(64, (Extent(0, ((0, 1),)), Extent(0, ((1, 2),)))),
    CostTerm(7),
)


def test_cost_is_the_sum_of_products_of_axis_lengths():
    cost = PolynomialCost("flops", TERMS, (16, 5))
    assert cost.cost((4, 3)) == 9 * 64 * 3 * 4 + 2 * 64 * 4 + 64 * 4 * 6 + 7
    assert cost.dense == 9 * 64 * 3 * 16 + 2 * 64 * 16 + 64 * 16 * 10 + 7


def test_a_channel_that_two_factors_share_counts_squared():
    own = Extent(1, ((0, 1),))
    cost = PolynomialCost("flops", [CostTerm(5, (own, own))], (9,))
    tracker = cost.track((9,))
    assert [tracker.cost_with(0, width) for width in (0, 1, 9)] == [5, 20, 500]


def test_huge_costs_stay_exact():
    big = 10**15 + 1
    cost = PolynomialCost("params", [CostTerm(big, (Extent(0, ((0, 1),)), Extent(1, ((1, 1),))))], (10**7, 10**7))
    tracker = cost.track((10**7, 3))
    assert tracker.cost == cost.cost((10**7, 3)) == 4 * 10**7 * big


def test_negative_coefficients_are_refused_because_costs_must_not_fall():
    with pytest.raises(AssertionError, match="must not fall"):
        PolynomialCost("flops", [CostTerm(-1, (Extent(0, ((0, 1),)),))], (4,))


@given(data=st.data())
def test_merging_and_tracking_agree_with_the_terms(data, random_terms):
    terms = data.draw(random_terms(4))
    widths = data.draw(st.lists(st.integers(0, 50), min_size=4, max_size=4))
    cost = PolynomialCost("flops", terms, (50,) * 4)
    tracker = cost.track(widths)
    assert tracker.cost == cost.cost(widths) == sum(term.cost(widths) for term in terms)
    changes = st.tuples(st.integers(0, 3), st.integers(0, 50))
    for index, width in data.draw(st.lists(changes, max_size=10)):
        expected = sum(term.cost([*widths[:index], width, *widths[index + 1 :]]) for term in terms)
        assert tracker.cost_with(index, width) == expected
        if data.draw(st.booleans()):
            tracker.set_width(index, width)
            widths[index] = width
            assert tracker.cost == expected


@given(data=st.data())
def test_cost_never_falls_when_a_width_rises(data, random_terms):
    cost = PolynomialCost("flops", data.draw(random_terms(3)), (9, 9, 9))
    widths = data.draw(st.lists(st.integers(0, 9), min_size=3, max_size=3))
    index = data.draw(st.integers(0, 2))
    larger = [width + (1 if i == index else 0) for i, width in enumerate(widths)]
    assert cost.cost(larger) >= cost.cost(widths)
