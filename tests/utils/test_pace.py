import pytest

from amc.utils.pace import Pace


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def left_after(clock, reports):
    pace, left = Pace(clock), None
    for clock.now, share in reports:
        left = pace.seconds_left(share)
    return left


def test_work_at_an_even_pace_has_its_share_of_the_time_left(clock):
    assert left_after(clock, [(10 * k, k / 40) for k in range(1, 31)]) == pytest.approx(100)


def test_a_single_report_is_enough(clock):
    assert left_after(clock, [(300, 1 / 3)]) == pytest.approx(600)


def test_what_was_done_before_a_checkpoint_is_not_taken_for_speed(clock):
    assert left_after(clock, [(10, 0.5), (12, 0.51), (14, 0.52)]) == pytest.approx(96)


def test_a_quick_start_is_forgotten(clock):
    played_back = [(0.1 * k, k / 300) for k in range(1, 201)]
    assert left_after(clock, [*played_back, *((20 + 10 * k, (200 + k) / 300) for k in range(1, 11))]) == pytest.approx(
        900
    )


def test_no_time_is_told_where_nothing_has_moved(clock):
    assert left_after(clock, [(5, 0.0)]) is None
    assert left_after(clock, [(10, 0.5), (100, 0.5), (200, 0.5)]) is None
