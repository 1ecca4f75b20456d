"""The schedules of the learning rate."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amc.errors import ConfigurationError
from amc.training import FineTuneConfig
from amc.training.schedule import SCHEDULES, learning_rate
from amc.utils.options import create


@given(st.integers(1, 500), st.floats(0, 0.9), st.sampled_from(["one_cycle", "cosine"]))
def test_learning_rate_rises_to_its_peak_and_falls_to_nearly_nothing(steps, warmup, schedule):
    rates = [learning_rate(schedule, step, steps, peak=2.0, warmup=warmup) for step in range(steps)]
    peak = rates.index(max(rates))
    assert all(0 < rate <= 2.0 + 1e-12 for rate in rates)
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert abs(peak - warmup * steps) <= 1
    if steps * (1 - warmup) > 3:
        assert rates[-1] == pytest.approx(2e-4)


def test_the_learning_rate_falls_in_steps_at_its_milestones():
    rates = [learning_rate("steps:milestones=[0.5, 0.8]", step, 10, peak=2.0, warmup=0.2) for step in range(10)]
    assert rates == pytest.approx([0.08, 1.04, 2, 2, 2, 0.2, 0.2, 0.2, 0.02, 0.02])
    with pytest.raises(ConfigurationError, match="milestones must be shares of the training"):
        FineTuneConfig(schedule="steps:milestones=[60]")


@pytest.mark.parametrize("name", SCHEDULES.names())
def test_every_schedule_stays_between_nothing_and_its_peak(name):
    shape = create(SCHEDULES, name)
    for steps, warmup in ((1, 0.0), (1, 0.5), (7, 0.3), (50, 0.9)):
        shares = [shape(step, steps, warmup) for step in range(steps)]
        assert all(0 < share <= 1 + 1e-12 for share in shares)
        assert shares == [shape(step, steps, warmup) for step in range(steps)]
