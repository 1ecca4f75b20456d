"""Greedy knapsack on measured per-layer sensitivities."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from agents.episodes import EpisodeLog, play
from agents.protocol import OnEpisode, SearchResult, check_episodes, problem_of
from amc.errors import ConfigurationError

if TYPE_CHECKING:
    from agents.protocol import AllocationEnv, EpisodeResult
    from amc.problem import PruningProblem

Vector = NDArray[np.float64]

_LEVELS = 65  # keep ratios considered per decision when the knapsack is filled
_RIDGE = 1e-3  # of the quadratic fit; keep ratios are in [0, 1]
_BISECTIONS = 50


class Greedy:
    """Measures what each decision gains from more units, then buys units where they gain most for their cost.

    All measurements are episodes under the same bounds as anyone's, so they are made around an allocation that
    meets the budget: first the uniform one, in which one decision after the other keeps `factors` times as much
    while the others make up for it. A ridge regression explains all rewards seen by one quadratic curve per decision;
    the knapsack takes from every curve the keep ratio at which the gain per cost falls to a common price, found by
    bisection so that the budget is spent. The result is played, and is the centre of the next round of measurements
    while episodes are left. It always plays exactly as many episodes as it is given, and the last of several is always
    a knapsack's result; the seed changes nothing.
    """

    name: ClassVar[str] = "greedy"

    def __init__(self, factors: tuple[float, ...] = (0.5, 1.5)) -> None:
        """Takes the measurements of a round.

        Args:
            factors: What a decision's keep ratio is multiplied by, positive and different from 1.

        Raises:
            ConfigurationError: If a factor is not positive, is 1, or there is none.
        """
        if not factors or any(factor <= 0 or factor == 1 for factor in factors):
            raise ConfigurationError(f"greedy: factors must be positive and different from 1, not {factors}")
        self.factors = tuple(factors)

    def search(
        self, env: AllocationEnv, episodes: int, *, seed: int, on_episode: OnEpisode | None = None
    ) -> SearchResult:
        """Measures and plays `episodes` allocations; see `Agent.search`."""
        check_episodes(episodes)
        problem, log = problem_of(env), EpisodeLog(on_episode)
        fit = _AdditiveFit(problem)
        centre = problem.project([1.0] * len(problem.decisions))
        fit.add(play(env, centre, log))
        while len(log.episodes) < episodes:
            for widths in self._round(problem, centre)[: episodes - len(log.episodes) - 1]:
                fit.add(play(env, widths, log))
            centre = knapsack(problem, fit.gains(), centre)
            fit.add(play(env, centre, log))
        return log.result()

    def _round(self, problem: PruningProblem, centre: tuple[int, ...]) -> list[tuple[int, ...]]:
        """Returns the allocations of one round: every decision less, then every decision more, and so on."""
        keep = np.array(problem.keep_ratios(centre))
        trials = []
        for factor in self.factors:
            for index in range(len(keep)):
                changed = keep.copy()
                changed[index] = min(1.0, changed[index] * factor)
                trials.append(problem.project([float(ratio) for ratio in changed]))
        return trials


class _AdditiveFit:
    """Rewards explained as a sum of one quadratic function of the keep ratio a decision."""

    def __init__(self, problem: PruningProblem) -> None:
        self._problem = problem
        self._keep: list[Vector] = []
        self._rewards: list[float] = []

    def add(self, result: EpisodeResult) -> None:
        """Takes one episode."""
        self._keep.append(np.array(self._problem.keep_ratios(self._problem.widths(result.allocation))))
        self._rewards.append(result.reward)

    def gains(self) -> Vector:
        """Returns the fitted curves, shape `(decisions, _LEVELS)`: reward by keep ratio, up to a constant."""
        keep = np.array(self._keep)
        rewards = np.array(self._rewards)
        centre = keep.mean(axis=0)
        features = np.concatenate([keep - centre, (keep - centre) ** 2], axis=1)
        features = features - features.mean(axis=0)
        gram = features.T @ features + _RIDGE * np.eye(features.shape[1])
        weights = np.linalg.solve(gram, features.T @ (rewards - rewards.mean()))
        linear, square = np.split(weights, 2)
        levels = np.linspace(0.0, 1.0, _LEVELS)[None, :] - centre[:, None]
        curves: Vector = linear[:, None] * levels + np.minimum(square, 0.0)[:, None] * levels**2
        return curves


def knapsack(problem: PruningProblem, gains: Vector, centre: tuple[int, ...]) -> tuple[int, ...]:
    """Chooses the keep ratios with the highest sum of gains under the budget.

    At a common price of cost every decision takes its own best level; a higher price buys less, so the price that
    spends the budget is found by bisection. For concave gains this is what buying the best gain per cost step by
    step arrives at.

    Args:
        problem: The problem; without a budget the price is zero.
        gains: Reward by keep ratio, shape `(decisions, levels)`, levels evenly spaced over [0, 1].
        centre: Widths around which the cost is linearised.

    Returns:
        Widths that meet the budget.
    """
    levels = np.linspace(0.0, 1.0, gains.shape[1])
    # In shares of the dense cost: that of several bounds together is a product, and huge.
    slopes = np.array(problem.cost_slopes(centre)) / problem.cost_model.dense
    costs = slopes[:, None] * levels[None, :]

    def choice(price: float) -> list[float]:
        return [float(levels[index]) for index in np.argmax(gains - price * costs, axis=1)]

    limit = problem.limit
    if limit is None:
        return problem.project(choice(0.0))
    priced = slopes > 0  # what costs nothing takes its best level at any price
    low, high = 0.0, float((np.ptp(gains[priced], axis=1) / (slopes[priced] * levels[1])).max(initial=0.0)) + 1.0
    for _ in range(_BISECTIONS):
        price = (low + high) / 2
        widths = [problem.round_width(index, 1.0 - keep) for index, keep in enumerate(choice(price))]
        low, high = (price, high) if problem.cost(widths) > limit else (low, price)
    least = problem.keep_ratios(problem.min_widths)
    return problem.project([max(keep, low) for keep, low in zip(choice(high), least, strict=True)])
