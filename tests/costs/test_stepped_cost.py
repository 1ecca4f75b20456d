"""Costs that rise in steps."""

from __future__ import annotations

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amc.costs.stepped_cost import SteppedAxis, SteppedCost
from amc.structure import Extent

OWN, OTHER = (SteppedAxis(Extent(0, ((index, 1),)), 8) for index in range(2))


def test_axes_count_in_steps_rounded_up():
    cost = SteppedCost("latency", 500, {(OWN,): 100, (OWN, OTHER): 10}, (16, 9), scale=1)
    assert [cost.cost((width, 9)) for width in (1, 8, 9, 16)] == [620, 620, 740, 740]
    assert cost.dense == 500 + 100 * 2 + 10 * 2 * 2


def test_a_finer_unit_is_rounded_down_once():
    cost = SteppedCost("latency", 900, {(OWN,): 600}, (16,), scale=1000)
    assert [cost.cost((8,)), cost.cost((16,))] == [1, 2]


@given(data=st.data(), sizes=st.lists(st.integers(1, 40), min_size=1, max_size=4))
def test_trackers_follow_the_cost_and_no_cost_falls_with_a_width(data, sizes, staircases):
    cost = data.draw(staircases(len(sizes), sizes))
    widths = [data.draw(st.integers(1, size)) for size in sizes]
    tracker = cost.track(widths)
    for _ in range(4):
        index = data.draw(st.integers(0, len(sizes) - 1))
        width = data.draw(st.integers(1, sizes[index]))
        raised = [*widths[:index], width, *widths[index + 1 :]]
        assert tracker.cost_with(index, width) == cost.cost(raised)
        assert (width >= widths[index]) <= (cost.cost(raised) >= cost.cost(widths))
        widths = raised
        tracker.set_width(index, width)
        assert tracker.cost == cost.cost(widths)


@pytest.mark.parametrize("terms", [{(OWN,): -1}])
def test_negative_coefficients_are_refused(terms):
    with pytest.raises(AssertionError, match="must not fall"):
        SteppedCost("latency", 0, terms, (16,))


def test_lengths_are_those_of_the_extent():
    axis = SteppedAxis(Extent(3, ((0, 2),)), 4)
    assert [axis.steps((width,)) for width in (1, 2, 10)] == [ceil(5 / 4), ceil(7 / 4), ceil(23 / 4)]
