"""SPDY finds coefficients of the layers' errors that the errors themselves do not show."""

from __future__ import annotations

import numpy as np
import pytest

from agents import create_agent
from amc.errors import ConfigurationError


def misleading(toys):
    """An environment whose tables say that those layers matter most which matter least."""
    env = toys.ToyEnv(toys.toy_problem([3, 2, 1, 4]), [4.0, 1.0, 0.5, 2.0])
    env.evaluator.errors = lambda: {
        decision.name: (1 - np.sqrt(np.arange(decision.size + 1) / decision.size)) / factor
        for decision, factor in zip(env.problem.decisions, env.sensitivity, strict=True)
    }
    return env


@pytest.mark.heavy
@pytest.mark.parametrize("seed", range(2))
def test_it_finds_what_the_errors_do_not_say(toys, seed):
    env = misleading(toys)
    programme = create_agent("dp").search(env, 1, seed=0).best
    outcome = create_agent("spdy").search(env, 60, seed=seed)
    best = env.reward_of(env.best())
    assert outcome.episodes[0].allocation == programme.allocation
    assert programme.reward < 0.95 * best
    assert outcome.best.reward > 0.97 * best


def test_no_allocation_is_played_twice_while_there_are_others(toys):
    outcome = create_agent("spdy").search(misleading(toys), 40, seed=0)
    assert len({episode.allocation.key() for episode in outcome.episodes}) >= 36


def test_the_search_narrows_to_one_coefficient_at_a_time():
    counts = list(create_agent("spdy", explored=0.2, resampled=0.3)._counts(10, 20))
    assert counts == [10] * 4 + [3] * 6 + [2] * 5 + [1] * 5
    assert list(create_agent("spdy", explored=1)._counts(10, 3)) == [10] * 3
    assert list(create_agent("spdy")._counts(10, 0)) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"explored": 1.5}, "spdy: explored must be a share of the episodes, 0 to 1, not 1.5"),
        ({"resampled": 0.0}, "spdy: resampled must be a share of the coefficients, above 0, at most 1, not 0.0"),
    ],
)
def test_settings_out_of_range_are_refused(options, message):
    with pytest.raises(ConfigurationError, match=message):
        create_agent("spdy", **options)
