from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest

from amc.errors import ConfigurationError, UnknownNameError
from amc.problem.score import Score
from envs.rewards import REWARDS, Outcome, name_of, paid, resolve_reward

OUTCOME = Outcome(Score(75.0, 0.8, agreement=90.0), {"flops": 1000, "params": 200}, {"flops": 4000, "params": 500})


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("accuracy", 0.75),
        ("flops", -0.25 * math.log(1000)),
        ("params", -0.25 * math.log(200)),
        ("cross_entropy", -0.8),
        ("agreement", 0.9),
    ],
)
def test_rewards_by_name(name, expected):
    assert resolve_reward(name, has_budget=True)(OUTCOME) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["flops", "params"])
def test_smaller_or_better_pays_more_in_the_paper_rewards(name):
    reward = resolve_reward(name, has_budget=False)
    smaller = replace(OUTCOME, costs={"flops": 500, "params": 100})
    better = replace(OUTCOME, score=Score(80.0, 0.8))
    assert reward(smaller) > reward(OUTCOME)
    assert reward(better) > reward(OUTCOME)


@pytest.mark.parametrize("name", ["accuracy", "cross_entropy", "agreement"])
def test_rewards_of_accuracy_alone_need_a_budget(name):
    with pytest.raises(ConfigurationError, match=f"{name!r} needs a budget.*'flops' or 'params'"):
        resolve_reward(name, has_budget=False)


@pytest.mark.parametrize("entry", list(REWARDS.entries()), ids=lambda entry: entry.name)
def test_every_reward_has_a_summary_and_pays_a_number(entry):
    assert entry.summary
    assert math.isfinite(paid(resolve_reward(entry.name, has_budget=True), OUTCOME))


@dataclass(frozen=True)
class Weighed:
    """Accuracy less what the FLOPs weigh.

    Attributes:
        weight: Of the share of the FLOPs that are kept.
    """

    weight: float = 0.1
    budget_free: ClassVar[bool] = True

    def __call__(self, outcome):
        return outcome.score.accuracy / 100 - self.weight * outcome.costs["flops"] / outcome.dense_costs["flops"]


def test_a_reward_of_the_users_own_takes_options_by_name(monkeypatch):
    monkeypatch.setattr(REWARDS, "_entries", dict(REWARDS._entries))
    REWARDS.register("weighed", Weighed)
    assert resolve_reward("weighed:weight=0.4", has_budget=False)(OUTCOME) == pytest.approx(0.75 - 0.4 / 4)
    with pytest.raises(ConfigurationError, match="'flops' or 'params' or 'weighed'"):
        resolve_reward("accuracy", has_budget=False)
    assert name_of({"name": "weighed", "weight": 0.4}) == "weighed:weight=0.4"


def test_unknown_rewards_are_refused_with_a_suggestion():
    with pytest.raises(UnknownNameError, match="unknown reward 'acuracy'; did you mean 'accuracy'"):
        resolve_reward("acuracy", has_budget=True)


def test_agreement_must_have_been_measured():
    unmeasured = replace(OUTCOME, score=Score(75.0, 0.8))
    with pytest.raises(ConfigurationError, match="needs an evaluator that measures agreement"):
        resolve_reward("agreement", has_budget=True)(unmeasured)


def test_functions_are_rewards_too():
    assert (
        resolve_reward(lambda outcome: outcome.costs["flops"] / outcome.dense_costs["flops"], has_budget=False)(OUTCOME)
        == 0.25
    )


@pytest.mark.parametrize("value", [None, "much", [1.0]])
def test_what_a_reward_returns_must_be_a_number(value):
    with pytest.raises(ConfigurationError, match="a reward must return a number"):
        paid(lambda outcome: value, OUTCOME)


def test_a_reward_is_a_name_or_a_function():
    with pytest.raises(ConfigurationError, match="a name or a function of an Outcome, not 123"):
        resolve_reward(123, has_budget=True)


def some_reward(outcome):
    return outcome.score.accuracy


def test_functions_have_names_that_no_other_has():
    first, second = (lambda outcome: 1.0), (lambda outcome: 2.0)
    assert name_of(first) == name_of(first) != name_of(second)
    assert name_of(some_reward) == f"{__name__}.some_reward"
