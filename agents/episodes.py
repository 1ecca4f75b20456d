"""Playing episodes and keeping their results."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from agents.protocol import EpisodeResult, Learning, OnEpisode, SearchResult, problem_of
from amc.errors import ConfigurationError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agents.protocol import AllocationEnv


class EpisodeLog:
    """Collects the episodes of one search and reports each as it ends."""

    def __init__(self, on_episode: OnEpisode | None = None) -> None:
        """Starts with no episodes.

        Args:
            on_episode: Called with every result, in order.
        """
        self.episodes: list[EpisodeResult] = []
        self._on_episode = on_episode
        self._since = time.perf_counter()

    def finish(self, info: Mapping[str, Any]) -> EpisodeResult:
        """Records an episode.

        Args:
            info: The environment's info of the episode's last step.

        Returns:
            The episode's result.
        """
        (result,) = self.finish_together([info])
        return result

    def finish_together(
        self, infos: Sequence[Mapping[str, Any]], learning: Learning | None = None
    ) -> list[EpisodeResult]:
        """Records episodes that were played side by side; each took an equal share of the time.

        Args:
            infos: The environment's info of each episode's last step.
            learning: What the agent had learnt by then.
        """
        now = time.perf_counter()
        results = []
        for info in infos:
            result = _result(len(self.episodes), info, (now - self._since) / len(infos))
            results.append(replace(result, learning=learning))
            self.episodes.append(results[-1])
            if self._on_episode is not None:
                self._on_episode(results[-1])
        self._since = now if infos else self._since
        return results

    def result(self) -> SearchResult:
        """Returns all episodes and the best.

        Raises:
            ConfigurationError: If none was played.
        """
        if not self.episodes:
            raise ConfigurationError("a search must play an episode before it returns; this agent has played none")
        return SearchResult(max(self.episodes, key=lambda result: result.reward), list(self.episodes))


def _result(episode: int, info: Mapping[str, Any], seconds: float) -> EpisodeResult:
    return EpisodeResult(
        episode=episode,
        allocation=info["allocation"],
        reward=float(info["reward"]),
        score=info["score"],
        costs=dict(info["costs"]),
        seconds=seconds,
    )


def play_ratios(env: AllocationEnv, ratios: Sequence[float] | NDArray[Any], log: EpisodeLog) -> EpisodeResult:
    """Plays one episode with given pruning ratios; the environment bounds and rounds them.

    Args:
        env: The environment.
        ratios: One pruning ratio per decision, in [0, 1].
        log: Takes the result.

    Returns:
        The episode's result.
    """
    env.reset()
    info: Mapping[str, Any] = {}
    for index, ratio in enumerate(ratios):
        _, _, terminated, truncated, info = env.step(np.array([ratio], dtype=np.float32))
        assert (terminated or truncated) == (index == len(ratios) - 1), "one step a decision"
    return log.finish(info)


def play(env: AllocationEnv, widths: Sequence[int], log: EpisodeLog | None = None) -> EpisodeResult:
    """Plays one episode with given widths, as the pruning ratios `1 - width / size`.

    Args:
        env: The environment.
        widths: Kept units, one a decision.
        log: Takes the result; a new one if None.

    Returns:
        The episode's result; its allocation has exactly these widths where they meet the budget and leave no
        room for another step.
    """
    return play_ratios(env, ratios_of(env, widths), EpisodeLog() if log is None else log)


def ratios_of(env: AllocationEnv, widths: Sequence[int]) -> NDArray[np.float64]:
    """Returns the pruning ratios that stand for widths, shape `(decisions,)`."""
    return 1.0 - np.array(problem_of(env).keep_ratios(widths))


def applied_ratios(env: AllocationEnv, result: EpisodeResult) -> NDArray[np.float64]:
    """Returns the pruning ratios of the allocation that an episode ended with, shape `(decisions,)`."""
    return ratios_of(env, problem_of(env).widths(result.allocation))
