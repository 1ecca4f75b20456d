"""The cross-entropy method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from agents.black_box import AskTell, BlackBoxAgent, Vector, best_of
from amc.errors import ConfigurationError


class CrossEntropyMethod(BlackBoxAgent):
    """Samples ratios from independent normals and refits the normals to the best of every generation.

    Rubinstein, "The Cross-Entropy Method for Combinatorial and Continuous Optimization", 1999. The normals are
    fitted to the ratios that the environment applied, so that the mean stays on the budget; samples are clipped
    to [0, 1].
    """

    name: ClassVar[str] = "cem"
    plays_together: ClassVar[bool] = True

    def __init__(
        self,
        population: int = 16,
        elite_fraction: float = 0.25,
        mean: float = 0.5,
        sigma: float = 0.25,
        smoothing: float = 0.7,
        min_sigma: float = 0.02,
        warm_start: tuple[str, ...] | None = None,
    ) -> None:
        """Takes the method's settings.

        Args:
            population: Episodes a generation.
            elite_fraction: Share of a generation that the normals are refitted to, in (0, 1].
            mean: Mean of every cut at the start: the pruning ratio, or where few weights stay the
                logarithmic scale (`KeepScale`).
            sigma: Standard deviation of every cut at the start.
            smoothing: Weight of the refitted mean and deviation against the previous ones, in (0, 1].
            min_sigma: The deviations never fall below this.
            warm_start: Heuristics whose allocations are played first; the best of them is the mean at the start. Unset:
                those of DDPG; an empty list for none.

        Raises:
            ConfigurationError: If a setting is out of its range.
        """
        if population < 2:
            raise ConfigurationError(f"cem: population must be at least 2, not {population}")
        if not (0 < elite_fraction <= 1 and 0 < smoothing <= 1):
            raise ConfigurationError(
                f"cem: elite_fraction and smoothing must be in (0, 1], not {elite_fraction} and {smoothing}"
            )
        if not 0 <= mean <= 1:
            raise ConfigurationError(f"cem: mean must be a pruning ratio, 0 to 1, not {mean}")
        if sigma <= 0 or min_sigma < 0:
            raise ConfigurationError(f"cem: deviations must be positive, not sigma={sigma}, min_sigma={min_sigma}")
        self.population, self.elites = population, max(1, round(elite_fraction * population))
        self.start_from(warm_start)
        self.mean, self.sigma, self.smoothing, self.min_sigma = mean, sigma, smoothing, min_sigma

    def strategy(self, decisions: int, episodes: int, seed: int) -> AskTell:
        """Creates the strategy of one search; see `BlackBoxAgent.strategy`."""
        return _CrossEntropyStrategy(self, decisions, seed)


class _CrossEntropyStrategy:
    """The state of one search."""

    def __init__(self, settings: CrossEntropyMethod, decisions: int, seed: int) -> None:
        self._settings = settings
        self._generator = np.random.default_rng(seed)
        self._mean = np.full(decisions, settings.mean)
        self._sigma = np.full(decisions, settings.sigma)
        self._generation: list[tuple[float, Vector]] = []

    def begin(self, known: Sequence[tuple[Vector, float]]) -> None:
        self._mean = best_of(known)

    @property
    def ahead(self) -> int:
        """What is left of the generation, all of which comes from the same normals."""
        return self._settings.population - len(self._generation)

    def ask(self) -> Vector:
        return np.clip(self._generator.normal(self._mean, self._sigma), 0.0, 1.0)

    def tell(self, asked: Vector, applied: Vector, reward: float) -> None:
        self._generation.append((reward, applied))
        if len(self._generation) == self._settings.population:
            self._refit()
            self._generation.clear()

    def _refit(self) -> None:
        ranked = sorted(self._generation, key=lambda member: -member[0])  # stable: the earlier of equals comes first
        elites = np.array([applied for _, applied in ranked[: self._settings.elites]])
        weight = self._settings.smoothing
        self._mean = weight * elites.mean(axis=0) + (1 - weight) * self._mean
        sigma = weight * elites.std(axis=0) + (1 - weight) * self._sigma
        self._sigma = np.maximum(sigma, self._settings.min_sigma)
