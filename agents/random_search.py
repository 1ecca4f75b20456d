"""Random search."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from agents.black_box import AskTell, BlackBoxAgent, Vector


class RandomSearch(BlackBoxAgent):
    """Draws every pruning ratio uniformly from [0, 1]; the environment's bounds do the rest.

    Where few single weights may stay, the logarithm of the keep ratio is drawn uniformly (see `KeepScale`).
    """

    name: ClassVar[str] = "random"
    plays_together: ClassVar[bool] = True

    def __init__(self, warm_start: tuple[str, ...] | None = ()) -> None:
        """Takes the start.

        Args:
            warm_start: Heuristics whose allocations are played first; none unless they are named, as random search is
                what the others are measured against.

        Raises:
            ConfigurationError: If `warm_start` names an agent that is not a heuristic.
        """
        self.start_from(warm_start)

    def strategy(self, decisions: int, episodes: int, seed: int) -> AskTell:
        """Creates the strategy of one search; see `BlackBoxAgent.strategy`."""
        return _UniformStrategy(decisions, seed)


class _UniformStrategy:
    """Proposals that do not learn."""

    ahead = sys.maxsize

    def __init__(self, decisions: int, seed: int) -> None:
        self._decisions = decisions
        self._generator = np.random.default_rng(seed)

    def begin(self, known: Sequence[tuple[Vector, float]]) -> None:
        pass

    def ask(self) -> Vector:
        return self._generator.random(self._decisions)

    def tell(self, asked: Vector, applied: Vector, reward: float) -> None:
        pass
