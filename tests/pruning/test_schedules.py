"""Schedules: the shares that the papers' formulas give, and what cannot be scheduled."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from amc.errors import ConfigurationError
from amc.pruning.schedules import SCHEDULES, Goal, geometric, gradual_share, shared
from amc.training.reinitialise import shuffled
from amc.utils.options import create


class ScheduleContract:
    """What every schedule must do."""

    goal = Goal(budget=0.3, finetune=12, train=20)

    @pytest.mark.parametrize("name", SCHEDULES.names())
    def test_budgets_fall_to_the_goal(self, name):
        rounds = create(SCHEDULES, name).rounds(self.goal)
        budgets = [step.budget for step in rounds]
        assert budgets[-1] == pytest.approx(0.3)
        assert budgets == sorted(budgets, reverse=True)
        assert all(0 < budget <= 1 for budget in budgets)

    @pytest.mark.parametrize("name", SCHEDULES.names())
    def test_the_epochs_are_those_of_the_fine_tuning_or_each_a_training(self, name):
        rounds = create(SCHEDULES, name).rounds(self.goal)
        if any(step.retrain for step in rounds):
            assert all(0 < step.epochs <= 2 * self.goal.train for step in rounds)
        else:
            assert sum(step.epochs for step in rounds) == self.goal.finetune
        assert all(step.first + step.epochs <= (step.total or step.epochs + step.first) for step in rounds)


class TestSchedules(ScheduleContract):
    pass


def test_one_shot_is_one_round():
    (step,) = create(SCHEDULES, "one_shot").rounds(Goal(0.5, 0, 0))
    assert (step.budget, step.epochs, step.rewind, step.recovery) == (0.5, 0, "none", None)


def test_every_round_removes_the_same_share_of_what_is_left():
    """A fifth in five rounds: each keeps 0.2 ** (1 / 5) = 0.7248 of what is left."""
    found = geometric(0.2, 5)
    assert np.array(found) == pytest.approx(0.7248 ** np.arange(1, 6), abs=1e-4)
    assert geometric(0.8**10, 10) == pytest.approx(0.8 ** np.arange(1, 11))


def test_the_shares_of_rounds_can_be_given():
    """AMC's four rounds for the weights of ResNet-50, thirty epochs each (arXiv:1802.03494)."""
    rounds = create(SCHEDULES, "iterative:shares=[0.5, 0.35, 0.25]").rounds(Goal(0.2, 120, 0))
    assert [(step.budget, step.epochs) for step in rounds] == [(0.5, 30), (0.35, 30), (0.25, 30), (0.2, 30)]


def test_the_cubic_schedule_by_hand():
    """To 80 percent in ten steps (arXiv:1710.01878, Eq. 1)."""
    found = [gradual_share(0.8, step, 10, 3) for step in (0, 1, 2, 5, 10)]
    assert found == pytest.approx([0.0, 0.2168, 0.3904, 0.7, 0.8])
    assert gradual_share(0.8, 1, 10**6, 3) * 10**6 == pytest.approx(3 * 0.8, rel=1e-4)  # its slope at the start


@given(st.floats(0.01, 1.0), st.integers(1, 40))
def test_the_cubic_schedule_rises_ever_slower(final, steps):
    shares = np.array([gradual_share(final, step, steps, 3) for step in range(steps + 1)])
    assert (np.diff(shares) > 0).all()
    assert (np.diff(shares, 2) < 1e-12).all()


def test_gradual_pruning_shares_one_schedule_of_the_learning_rate():
    rounds = create(SCHEDULES, "gradual:count=3").rounds(Goal(0.5, 10, 0))
    assert [(step.first, step.epochs, step.total) for step in rounds] == [(0, 1, 10), (1, 1, 10), (2, 8, 10)]


def test_a_rewound_learning_rate_plays_the_end_of_the_training_again():
    rounds = create(SCHEDULES, "lr_rewinding:count=2;epochs=6").rounds(Goal(0.25, 0, 20))
    assert [(step.budget, step.first, step.epochs, step.total, step.retrain) for step in rounds] == [
        (0.5, 14, 6, 20, True),
        (0.25, 14, 6, 20, True),
    ]


def test_the_control_of_a_ticket_differs_in_what_its_last_round_starts_from_alone():
    goal = Goal(0.1, 0, 20)
    ticket, control = (create(SCHEDULES, f"ticket:count=3{more}").rounds(goal) for more in ("", ";rewind=random"))
    assert control[:2] == ticket[:2]
    assert (ticket[2].rewind, control[2].rewind) == ("init", "redrawn")
    assert replace(control[2], rewind="init") == ticket[2]


def test_shuffled_weights_are_the_same_values_elsewhere():
    weights = {"w": torch.arange(24.0).reshape(2, 3, 4), "b": torch.arange(5.0)}
    found, again = shuffled(weights, 1), shuffled(weights, 1)
    assert torch.equal(found["b"], weights["b"])
    assert not torch.equal(found["w"], weights["w"])
    assert torch.equal(found["w"].flatten().sort().values, torch.arange(24.0))
    assert torch.equal(found["w"], again["w"])


@pytest.mark.parametrize(("budget", "epochs"), [(1 / 1.6, 256), (0.2, 320)])
def test_scratch_b_trains_for_as_much_computation_at_most_twice_as_long(budget, epochs):
    (step,) = create(SCHEDULES, "scratch:match=computation").rounds(Goal(budget, 0, 160))
    assert (step.epochs, step.rewind) == (epochs, "random")
    (step,) = create(SCHEDULES, "scratch").rounds(Goal(budget, 0, 160))
    assert step.epochs == 160


def test_epochs_are_shared_out_evenly():
    assert shared(10, 3) == [3, 3, 4]
    assert shared(3, 3) == [1, 1, 1]


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (
            "iterative:count=9",
            r"'iterative' needs an epoch for each of its 9 rounds, and there are 4; .*iterative:count=4",
        ),
        ("gradual:count=5", "'gradual' needs an epoch for each of its 5 rounds, and there are 4"),
        ("gradual:exponent=0.5", "exponent must be at least 1, not 0.5"),
        ("iterative:count=0", "iterative: count must be at least 1 round, not 0"),
        ("iterative:shares=[0.6, 0.7]", r"iterative: shares must fall, between 1 and 0, not \[0\.6, 0\.7\]"),
        ("iterative:shares=[1.0]", r"iterative: shares must fall, between 1 and 0, not \[1\.0\]"),
        ("iterative:shares=[0.6, 0.3]", r"every share must be above the budget, 0\.3 of .*, not 0\.3"),
        ("ticket:rewind=early;epoch=20", "epoch must be before the end of the training of 20 epochs, not 20"),
        ("ticket:rewind=late", "rewind"),
        ("ticket:epoch=0", "epoch must be at least 1, not 0; for the start rewind to init"),
        ("lr_rewinding:epochs=21", "epochs must be no more than the 20 of the training, not 21"),
        ("lr_rewinding:epochs=-1", "epochs must be at least 0, not -1"),
        ("scratch:match=time", "match"),
        ("iterativ", "did you mean 'iterative'"),
        ("iterative:rounds=3", "has no option 'rounds'; did you mean 'count'|has no option 'rounds'"),
    ],
)
def test_what_cannot_be_scheduled_is_named(chosen, message):
    with pytest.raises(ConfigurationError, match=message):
        create(SCHEDULES, chosen).rounds(Goal(0.3, 4, 20))
