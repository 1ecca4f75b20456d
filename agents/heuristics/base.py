"""Heuristics: a rule determines the widths, and one episode scores them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from agents.episodes import EpisodeLog, play
from agents.protocol import OnEpisode, SearchResult, check_episodes, problem_of

if TYPE_CHECKING:
    from agents.protocol import AllocationEnv
    from amc.problem import PruningProblem


class Planner(ABC):
    """An agent that works its widths out by itself, and plays one episode."""

    name: ClassVar[str]
    measures: ClassVar[bool] = False
    """Whether it has allocations scored before it plays its own."""

    @abstractmethod
    def plan(self, env: AllocationEnv, episodes: int) -> tuple[int, ...]:
        """Returns the widths to play, one a decision, within the budget.

        Args:
            env: The environment; it shows the problem, and the evaluator for what the rule looks at.
            episodes: How many allocations it may have scored, the one that is played included.
        """

    def search(
        self, env: AllocationEnv, episodes: int, *, seed: int, on_episode: OnEpisode | None = None
    ) -> SearchResult:
        """Plays one episode, whatever `episodes` and `seed` say; see `Agent.search`."""
        check_episodes(episodes)
        log = EpisodeLog(on_episode)
        play(env, self.plan(env, episodes), log)
        return log.result()


class Heuristic(Planner):
    """A rule that knows only the problem.

    Without a budget there is nothing to scale to: the widths are then the rule's keep ratios, rounded.
    """

    @abstractmethod
    def keep_ratios(self, problem: PruningProblem) -> list[float]:
        """Returns the rule's keep ratios, one a decision, before they are scaled to the budget."""

    def widths(self, problem: PruningProblem) -> tuple[int, ...]:
        """Returns the rule's keep ratios scaled by one common factor so that the budget is met, as widths.

        Rules are about widths: residual blocks stay, unless nothing else meets the budget.
        """
        requests = zip(problem.decisions, self.keep_ratios(problem), strict=True)
        return problem.project([1.0 if decision.may_vanish else ratio for decision, ratio in requests])

    def plan(self, env: AllocationEnv, episodes: int) -> tuple[int, ...]:
        """Returns the rule's widths; see `Planner.plan`."""
        return self.widths(problem_of(env))
