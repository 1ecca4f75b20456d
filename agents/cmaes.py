"""CMA-ES, from the `cmaes` package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from cmaes import CMA

from agents.black_box import AskTell, BlackBoxAgent, Vector, best_of
from amc.errors import ConfigurationError


class CmaEs(BlackBoxAgent):
    """Adapts a full normal distribution over the ratios (Hansen, 2016, arXiv:1604.00772).

    Rewards belong to the ratios that were asked for, not to those that the environment applied: repaired points
    would distort the adapted covariance.
    """

    name: ClassVar[str] = "cmaes"
    plays_together: ClassVar[bool] = True

    def __init__(
        self,
        mean: float = 0.5,
        sigma: float = 0.15,
        population: int | None = None,
        warm_start: tuple[str, ...] | None = None,
    ) -> None:
        """Takes the strategy's settings.

        Args:
            mean: Mean of every cut at the start, in [0, 1]: the pruning ratio, or where few weights stay
                the logarithmic scale (`KeepScale`).
            sigma: Step size at the start.
            population: Episodes a generation; None for the package's default, `4 + floor(3 ln(decisions))`.
            warm_start: Heuristics whose allocations are played first; the best of them is the mean at the start. Unset:
                those of DDPG; an empty list for none.

        Raises:
            ConfigurationError: If a setting is out of its range.
        """
        if not 0 <= mean <= 1 or sigma <= 0 or (population is not None and population < 3):
            raise ConfigurationError(
                "cmaes: mean must be in [0, 1], sigma positive and population at least 3, "
                f"not {mean}, {sigma} and {population}"
            )
        self.start_from(warm_start)
        self.mean, self.sigma, self.population = mean, sigma, population

    def strategy(self, decisions: int, episodes: int, seed: int) -> AskTell:
        """Creates the strategy of one search; see `BlackBoxAgent.strategy`."""
        return _CmaStrategy(self, decisions, seed)


class _CmaStrategy:
    """The package's optimiser, one solution at a time."""

    def __init__(self, settings: CmaEs, decisions: int, seed: int) -> None:
        self._settings, self._seed = settings, seed
        self._optimiser = self._from(np.full(decisions, settings.mean))
        self._generation: list[tuple[Vector, float]] = []

    def _from(self, mean: Vector) -> CMA:
        return CMA(
            mean=mean,
            sigma=self._settings.sigma,
            bounds=np.tile([0.0, 1.0], (len(mean), 1)),
            seed=self._seed,
            population_size=self._settings.population,
        )

    def begin(self, known: Sequence[tuple[Vector, float]]) -> None:
        self._optimiser = self._from(best_of(known))

    @property
    def ahead(self) -> int:
        """What is left of the generation, all of which comes from the same distribution."""
        return int(self._optimiser.population_size) - len(self._generation)

    def ask(self) -> Vector:
        return np.asarray(self._optimiser.ask(), dtype=np.float64)

    def tell(self, asked: Vector, applied: Vector, reward: float) -> None:
        self._generation.append((asked, -reward))  # the package minimises
        if len(self._generation) == self._optimiser.population_size:
            self._optimiser.tell(self._generation)
            self._generation = []
