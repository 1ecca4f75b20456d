"""Random search."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from agents.black_box import AskTell, BlackBoxAgent, Vector


class RandomSearch(BlackBoxAgent):
    """Draws every pruning ratio uniformly from [0, 1]; the environment's bounds do the rest."""

    name: ClassVar[str] = "random"

    def strategy(self, decisions: int, episodes: int, seed: int) -> AskTell:
        """Creates the strategy of one search; see `BlackBoxAgent.strategy`."""
        return _UniformStrategy(decisions, seed)


class _UniformStrategy:
    """Proposals that learn nothing."""

    def __init__(self, decisions: int, seed: int) -> None:
        self._decisions = decisions
        self._generator = np.random.default_rng(seed)

    def ask(self) -> Vector:
        return self._generator.random(self._decisions)

    def tell(self, asked: Vector, applied: Vector, reward: float) -> None:
        pass
