"""Black-box search: one loop for every strategy that asks for a vector of cuts and receives its reward.

A cut is a pruning ratio, or lies on a logarithmic scale where few single weights may stay (`KeepScale`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from agents.episodes import EpisodeLog, applied_ratios
from agents.guides import guides_of, heuristic
from agents.keep_scale import KeepScale
from agents.protocol import OnEpisode, SearchResult, check_episodes, problem_of
from agents.side_by_side import play_together

if TYPE_CHECKING:
    from agents.protocol import AllocationEnv
    from amc.problem.evaluator import Evaluator

Vector = NDArray[np.float64]


_EACH = 4
"""Episodes for each place of the evaluator: a slow one then keeps few places waiting."""


class AskTell(Protocol):
    """A strategy that proposes vectors in [0, 1]^n and learns from their rewards."""

    def begin(self, known: Sequence[tuple[Vector, float]]) -> None:
        """Takes vectors whose rewards are known before the first is asked for.

        Args:
            known: Vectors as they were applied, each with its reward; at least one.
        """
        ...

    @property
    def ahead(self) -> int:
        """How many vectors may be asked for before the first reward is told, as they depend on none; 1 if missing."""

    def ask(self) -> Vector:
        """Returns the next vector of cuts, shape `(decisions,)`."""
        ...

    def tell(self, asked: Vector, applied: Vector, reward: float) -> None:
        """Takes the reward of the last vector.

        Args:
            asked: The vector that `ask` returned.
            applied: The vector as applied by the environment: bounded by the budget and rounded to whole widths.
            reward: The episode's reward; higher is better.
        """
        ...


class BlackBoxAgent(ABC):
    """An agent that plays what an ask/tell strategy proposes.

    The environment sees the ratios one by one, like any agent's actions, so that the same bounds and rounding apply to
    all.
    """

    name: ClassVar[str]
    warm_start: tuple[str, ...] | None = ()
    """Heuristics whose allocations are played first, those of DDPG if None; they count as episodes. An agent that
    has some needs a strategy with `begin`."""
    plays_together: ClassVar[bool] = False
    """Whether its strategies can be asked for several vectors before a reward is told."""

    def start_from(self, names: Sequence[str] | None) -> None:
        """Takes the heuristics whose allocations are played first.

        Args:
            names: Their names, an empty tuple for none; None for those that DDPG starts from.

        Raises:
            UnknownNameError: If there is no such agent.
            ConfigurationError: If one is not a heuristic.
        """
        for name in names or ():
            heuristic(name, self.name)
        self.warm_start = None if names is None else tuple(names)

    @abstractmethod
    def strategy(self, decisions: int, episodes: int, seed: int) -> AskTell:
        """Creates the strategy of one search.

        Args:
            decisions: Length of the vectors.
            episodes: How many vectors will be asked for.
            seed: Seed of the strategy's own generator.
        """

    def search(
        self, env: AllocationEnv, episodes: int, *, seed: int, on_episode: OnEpisode | None = None
    ) -> SearchResult:
        """Plays `episodes` vectors; see `Agent.search`."""
        check_episodes(episodes)
        log = EpisodeLog(on_episode)
        strategy = self.strategy(len(problem_of(env).decisions), episodes, seed)
        scale = KeepScale.for_problem(problem_of(env))
        known: list[tuple[Vector, float]] = []
        most = _most_together(env)
        guides = guides_of(env, self.warm_start, self.name)[:episodes]
        for start in range(0, len(guides), most):
            for result in play_together(env, guides[start : start + most], log):
                known.append((scale.cuts(applied_ratios(env, result)), result.reward))
        if known:
            strategy.begin(known)
        while (left := episodes - len(log.episodes)) > 0:
            several = [strategy.ask() for _ in range(min(most, left, getattr(strategy, "ahead", 1)))]
            played = play_together(env, [scale.ratios(cuts) for cuts in several], log)
            for asked, result in zip(several, played, strict=True):
                strategy.tell(asked, scale.cuts(applied_ratios(env, result)), result.reward)
        return log.result()


def _most_together(env: AllocationEnv) -> int:
    """Returns how many episodes to play side by side: some for each that the evaluator scores at the same time."""
    evaluator: Evaluator | None = getattr(env.unwrapped, "evaluator", None)
    count = 1 if evaluator is None else evaluator.side_by_side
    return 1 if count == 1 else _EACH * count


def best_of(known: Sequence[tuple[Vector, float]]) -> Vector:
    """Returns the vector with the highest reward, the first of equals."""
    return max(known, key=lambda pair: pair[1])[0]
