from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amc.errors import ConfigurationError
from amc.problem import Decision


def allowed(decision):
    """The definition, by trying every width."""
    highest = decision.size if decision.max_width is None else decision.max_width
    return [w for w in range(max(1, decision.min_width), highest + 1) if w % decision.step == 0 or w == decision.size]


@given(size=st.integers(1, 40), low=st.integers(0, 40), high=st.none() | st.integers(1, 40), step=st.integers(1, 12))
def test_levels_number_the_allowed_widths(size, low, high, step):
    low, high = min(low, size), high if high is None else min(high, size)
    try:
        decision = Decision("d", size, low, high, step)
    except ConfigurationError:
        highest = size if high is None else high
        assert not [w for w in range(max(1, low), highest + 1) if w % step == 0 or w == size]
        return
    widths = [decision.width(level) for level in range(decision.levels)]
    assert widths == allowed(decision)
    assert [decision.level(width) for width in widths] == list(range(decision.levels))
    assert (decision.smallest, decision.largest) == (widths[0], widths[-1])
    for width in set(range(size + 2)) - set(widths):
        with pytest.raises(ValueError, match="not an allowed width"):
            decision.level(width)


@given(size=st.integers(1, 40), step=st.integers(1, 12), target=st.floats(-5, 50))
def test_nearest_is_no_farther_than_any_other_and_prefers_the_larger(size, step, target):
    decision = Decision("d", size, step=step)
    nearest = decision.nearest(target)
    assert nearest == min(allowed(decision), key=lambda width: (abs(width - target), -width))


def test_widths_round_to_multiples_except_the_dense_one():
    decision = Decision("d", 20, min_width=3, step=8)
    assert [decision.width(level) for level in range(decision.levels)] == [8, 16, 20]
    assert [decision.nearest(target) for target in (1, 11.9, 12, 17.9, 18)] == [8, 8, 16, 16, 20]


def test_no_allowed_width_is_an_error():
    with pytest.raises(ConfigurationError, match="no multiple of 8 lies between 1 and 5 of its 6 units"):
        Decision("d", 6, max_width=5, step=8)


def test_a_step_below_one_is_an_error():
    with pytest.raises(ConfigurationError, match="from 1 up, not 0"):
        Decision("d", 6, step=0)
