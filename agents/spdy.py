"""SPDY: a search for the coefficients with which the errors of single layers add up to what the network loses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from math import ceil
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from agents.episodes import EpisodeLog, play
from agents.protocol import OnEpisode, SearchResult, check_episodes, evaluator_of, problem_of
from amc.errors import ConfigurationError
from amc.problem.least_error import least_error_widths

if TYPE_CHECKING:
    from agents.protocol import AllocationEnv
    from amc.problem import PruningProblem
    from amc.problem.evaluator import Evaluator

Vector = NDArray[np.float64]

_BUCKETS = 2000
"""Steps into which the budget is divided; a solution takes a fifth of the time that it does with those of `dp`."""
_DRAWS = 20
"""How often coefficients are drawn that lead to an allocation which was played before."""


class Spdy:
    """Searches for coefficients of the layers' errors; dynamic programming turns them into an allocation.

    Paper: Frantar and Alistarh, 2022, arXiv:2201.13096, section 3.3. An allocation minimises `sum of c_l * e_l(s_l)`
    under the budget, `e_l` being the error of layer `l` by its width. At first all coefficients `c` are drawn uniformly
    from [0, 1]. After that the search keeps the best set so far and redraws `k` of its coefficients at a time; `k`
    shrinks from a tenth of the layers to one. So every candidate is a sensible allocation, and the search only has to
    find which layers matter more than their own errors say.

    Deviations: the errors are measured, where the authors' code takes `(s / (n - 1))^2` for the s-th of the n levels of
    every layer; the first candidate is that of `dp`, whose coefficients are all 1; the draws are divided by shares of
    the episodes, where the paper takes 100 at first and 100 for each `k`; and draws that lead to an allocation which
    was played before are repeated, each time with one coefficient more.
    """

    name: ClassVar[str] = "spdy"

    def __init__(self, explored: float = 0.3, resampled: float = 0.1) -> None:
        """Takes the method's settings.

        Args:
            explored: Share of the episodes with coefficients that do not depend on each other, 0 to 1.
            resampled: Share of the coefficients that the first redraws replace, above 0, at most 1.

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
        allocate = _Allocator(problem_of(env), evaluator_of(env))
        best = np.ones(len(allocate.problem.decisions))
        reward = play(env, allocate(best), log).reward
        for count in self._counts(len(best), episodes - 1):
            coefficients, widths = allocate.something_new(partial(_redrawn, best, generator), count)
            result = play(env, widths, log)
            if result.reward > reward:
                best, reward = coefficients, result.reward
        return log.result()

    def _counts(self, decisions: int, episodes: int) -> Iterator[int]:
        """Yields, for each episode, the number of coefficients to redraw."""
        first = round(self.explored * episodes)
        yield from (decisions for _ in range(first))
        most = ceil(self.resampled * decisions)
        for episode in range(episodes - first):
            yield most - episode * most // (episodes - first)


class _Allocator:
    """Turns coefficients into widths, and knows which it has returned."""

    def __init__(self, problem: PruningProblem, evaluator: Evaluator) -> None:
        self.problem = problem
        self._errors = {} if problem.limit is None else evaluator.errors()
        self._known: set[tuple[int, ...]] = set()

    def __call__(self, coefficients: Vector) -> tuple[int, ...]:
        """Returns the widths of the least weighted error; all of them where there is no budget."""
        if self.problem.limit is None:
            return self.problem.max_widths
        names = [decision.name for decision in self.problem.decisions]
        weighted = {name: factor * self._errors[name] for name, factor in zip(names, coefficients, strict=True)}
        widths = least_error_widths(self.problem, weighted, buckets=_BUCKETS)
        self._known.add(widths)
        return widths

    def something_new(self, redrawn: Callable[[int], Vector], count: int) -> tuple[Vector, tuple[int, ...]]:
        """Draws coefficients until the widths are new, or often enough.

        Args:
            redrawn: Redraws a number of coefficients at random.
            count: How many at first; one more after each draw in vain.

        Returns:
            The last coefficients, and the widths that they lead to.
        """
        for more in range(_DRAWS):
            before = len(self._known)
            coefficients = redrawn(count + more)
            widths = self(coefficients)
            if len(self._known) > before:
                break
        return coefficients, widths


def _redrawn(best: Vector, generator: np.random.Generator, count: int) -> Vector:
    """Returns a copy with `count` of the coefficients redrawn at random, or all of them if there are fewer."""
    coefficients, count = best.copy(), min(count, len(best))
    coefficients[generator.choice(len(best), count, replace=False)] = generator.random(count)
    return coefficients
