"""SPDY: a search for the coefficients with which the errors of single layers add up to what the network loses."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from math import ceil
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from agents.episodes import EpisodeLog, play
from agents.protocol import OnEpisode, SearchResult, check_episodes
from agents.weighted_errors import WeightedErrors, redrawn
from amc.errors import ConfigurationError

if TYPE_CHECKING:
    from agents.protocol import AllocationEnv


class Spdy:
    """Searches for coefficients of the layers' errors; dynamic programming turns them into an allocation.

    Paper: Frantar and Alistarh, 2022, arXiv:2201.13096, section 3.3. An allocation minimises `sum of c_l * e_l(s_l)`
    under the budget, `e_l` being the error of layer `l` by its width. The coefficients `c` are drawn uniformly from
    [0, 1] first; then `k` of the best ones are drawn anew again and again, and `k` falls from a tenth of the layers to
    one. So every candidate is a sensible allocation, and the search has to find only which layers matter more than
    their own errors say.

    Deviations: the first candidate is that of `dp`, whose coefficients are all 1; the draws are divided by shares of
    the episodes, where the paper takes 100 at first and 100 for each `k`; and draws that lead to an allocation which
    was played before are repeated, with ever more coefficients.
    """

    name: ClassVar[str] = "spdy"

    def __init__(self, explored: float = 0.3, resampled: float = 0.1) -> None:
        """Takes the method's settings.

        Args:
            explored: Share of the episodes with coefficients that do not depend on each other, 0 to 1.
            resampled: Share of the best coefficients that is drawn anew at first, above 0, at most 1.

        Raises:
            ConfigurationError: If a setting is out of its range.
        """
        if not 0 <= explored <= 1:
            raise ConfigurationError(f"spdy: explored must be a share of the episodes, 0 to 1, not {explored}")
        if not 0 < resampled <= 1:
            raise ConfigurationError(
                f"spdy: resampled must be a share of the coefficients, above 0, at most 1, not {resampled}"
            )
        self.explored, self.resampled = explored, resampled

    def search(
        self, env: AllocationEnv, episodes: int, *, seed: int, on_episode: OnEpisode | None = None
    ) -> SearchResult:
        """Plays what coefficients lead to; see `Agent.search`.

        Raises:
            ConfigurationError: If the evaluator knows no errors.
        """
        check_episodes(episodes)
        log, generator = EpisodeLog(on_episode), np.random.default_rng(seed)
        allocate = WeightedErrors(env)
        best = np.ones(len(allocate.problem.decisions))
        reward = play(env, allocate(best), log).reward
        for count in self._counts(len(best), episodes - 1):
            coefficients, widths = allocate.something_new(partial(redrawn, best, generator), count)
            result = play(env, widths, log)
            if result.reward > reward:
                best, reward = coefficients, result.reward
        return log.result()

    def _counts(self, decisions: int, episodes: int) -> Iterator[int]:
        """Yields for each episode how many coefficients are drawn anew."""
        first = round(self.explored * episodes)
        yield from (decisions for _ in range(first))
        most = ceil(self.resampled * decisions)
        for episode in range(episodes - first):
            yield most - episode * most // (episodes - first)
