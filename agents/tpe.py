"""The tree-structured Parzen estimator, from Optuna."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import optuna

from agents.black_box import AskTell, BlackBoxAgent, Vector
from amc.errors import ConfigurationError

if TYPE_CHECKING:
    from agents.protocol import AllocationEnv, OnEpisode, SearchResult


class Tpe(BlackBoxAgent):
    """Optuna's default sampler (Bergstra et al., "Algorithms for Hyper-Parameter Optimization", 2011)."""

    name: ClassVar[str] = "tpe"

    def __init__(
        self, startup_trials: int = 10, multivariate: bool = False, warm_start: tuple[str, ...] | None = None
    ) -> None:
        """Takes the sampler's settings.

        Args:
            startup_trials: Random episodes before the estimator is used.
            multivariate: Whether to estimate the ratios jointly; slower.
            warm_start: Heuristics whose allocations are played first and are trials like others. Unset: those of DDPG;
                an empty list for none.

        Raises:
            ConfigurationError: If `startup_trials` is not positive, or `warm_start` names an agent that is not a
                heuristic.
        """
        if startup_trials < 1:
            raise ConfigurationError(f"tpe: startup_trials must be at least 1, not {startup_trials}")
        self.start_from(warm_start)
        self.startup_trials, self.multivariate = startup_trials, multivariate

    def strategy(self, decisions: int, episodes: int, seed: int) -> AskTell:
        """Creates the strategy of one search; see `BlackBoxAgent.strategy`."""
        sampler = optuna.samplers.TPESampler(
            n_startup_trials=self.startup_trials, multivariate=self.multivariate, seed=seed
        )
        return _TpeStrategy(optuna.create_study(sampler=sampler, direction="maximize"), decisions)

    def search(
        self, env: AllocationEnv, episodes: int, *, seed: int, on_episode: OnEpisode | None = None
    ) -> SearchResult:
        """Plays `episodes` trials; see `Agent.search`."""
        with _quiet_optuna():
            return super().search(env, episodes, seed=seed, on_episode=on_episode)


class _TpeStrategy:
    """One Optuna study."""

    ahead = 1

    def __init__(self, study: optuna.Study, decisions: int) -> None:
        self._study = study
        self._names = [f"ratio_{index}" for index in range(decisions)]
        self._trial: optuna.Trial | None = None

    def begin(self, known: Sequence[tuple[Vector, float]]) -> None:
        ranges: dict[str, optuna.distributions.BaseDistribution] = {
            name: optuna.distributions.FloatDistribution(0.0, 1.0) for name in self._names
        }
        for vector, reward in known:
            values = dict(zip(self._names, vector.tolist(), strict=True))
            self._study.add_trial(optuna.create_trial(params=values, distributions=ranges, value=reward))

    def ask(self) -> Vector:
        self._trial = self._study.ask()
        return np.array([self._trial.suggest_float(name, 0.0, 1.0) for name in self._names])

    def tell(self, asked: Vector, applied: Vector, reward: float) -> None:
        assert self._trial is not None, "ask comes first"
        self._study.tell(self._trial, reward)


@contextmanager
def _quiet_optuna() -> Iterator[None]:
    """Silences Optuna's progress messages, and restores the level that the caller has set."""
    logger = logging.getLogger("optuna")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
