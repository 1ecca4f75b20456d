from __future__ import annotations

import logging

import numpy as np
import optuna
import pytest

from agents import create_agent
from amc.errors import ConfigurationError


@pytest.mark.heavy
@pytest.mark.parametrize(("name", "episodes"), [("cem", 128), ("cmaes", 80), ("tpe", 40)])
def test_learning_beats_chance_in_as_many_episodes(toys, name, episodes):
    def mean_best(agent):
        envs = [toys.wide_env("project") for _ in range(2)]
        return np.mean([create_agent(agent).search(env, episodes, seed=s).best.reward for s, env in enumerate(envs)])

    assert mean_best(name) > mean_best("random")


def test_what_a_strategy_is_told_is_what_was_applied(toys):
    from agents.black_box import BlackBoxAgent

    told = []

    class Fixed(BlackBoxAgent):
        name = "fixed"

        def strategy(self, decisions, episodes, seed):
            return self

        def ask(self):
            return np.zeros(3)  # nothing pruned: over the budget

        def tell(self, asked, applied, reward):
            told.append((asked, applied, reward))

    env = toys.small_env()
    result = Fixed().search(env, 1, seed=0).best
    ((asked, applied, reward),) = told
    assert asked.tolist() == [0, 0, 0]
    assert applied.tolist() == (1 - np.array(result.allocation.key()) / 8).tolist() != [0, 0, 0]
    assert reward == result.reward


def test_cem_refits_to_the_elites(toys):
    strategy = create_agent("cem", population=4, elite_fraction=0.5, smoothing=1.0, min_sigma=0.0).strategy(1, 8, 0)
    for ratio, reward in ((0.1, 0.0), (0.4, 5.0), (0.6, 6.0), (0.9, 1.0)):
        strategy.ask()
        strategy.tell(np.array([ratio]), np.array([ratio]), reward)
    draws = np.array([strategy.ask()[0] for _ in range(4000)])
    assert draws.mean() == pytest.approx(0.5, abs=0.01)
    assert draws.std() == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cem", {"population": 1}, "population must be at least 2"),
        ("cem", {"elite_fraction": 0.0}, "elite_fraction and smoothing"),
        ("cem", {"sigma": 0.0}, "deviations must be positive"),
        ("cmaes", {"sigma": 0.0}, "sigma positive"),
    ],
)
def test_settings_out_of_range_are_refused(name, options, message):
    with pytest.raises(ConfigurationError, match=message):
        create_agent(name, **options)


def test_tpe_is_silent_and_restores_the_level_of_optunas_logger(toys, capfd):
    optuna.logging.get_verbosity()  # Optuna sets its level when it is first used, not when a search begins
    logger = logging.getLogger("optuna")
    before = logger.level
    try:
        logger.setLevel(logging.DEBUG)
        create_agent("tpe").search(toys.small_env(), 3, seed=0)
        assert logger.level == logging.DEBUG
    finally:
        logger.setLevel(before)
    assert capfd.readouterr().err == ""
