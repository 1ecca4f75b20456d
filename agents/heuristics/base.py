"""Heuristics: a rule gives the widths, one episode scores them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from agents.episodes import EpisodeLog, play
from agents.protocol import OnEpisode, SearchResult, check_episodes, problem_of

if TYPE_CHECKING:
    from agents.protocol import AllocationEnv
    from amc.problem import PruningProblem


class Heuristic(ABC):
    """An agent that knows nothing but the problem, and plays one episode.

    Without a budget there is nothing to scale to: the widths are then the rule's keep ratios, rounded.
    """

    name: ClassVar[str]

    @abstractmethod
    def keep_ratios(self, problem: PruningProblem) -> list[float]:
        """Returns the rule's keep ratios, one a decision, before they are scaled to the budget."""

    def widths(self, problem: PruningProblem) -> tuple[int, ...]:
        """Returns the rule's keep ratios scaled by one common factor so that the budget is met, as widths."""
        return problem.project(self.keep_ratios(problem))

    def search(
        self, env: AllocationEnv, episodes: int, *, seed: int, on_episode: OnEpisode | None = None
    ) -> SearchResult:
        """Plays one episode, whatever `episodes` and `seed` say; see `Agent.search`."""
        check_episodes(episodes)
        log = EpisodeLog(on_episode)
        play(env, self.widths(problem_of(env)), log)
        return log.result()
