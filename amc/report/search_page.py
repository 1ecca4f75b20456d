"""The page of a search without pruning: how it went, and what it found."""

from __future__ import annotations

from collections.abc import Sequence

from agents.protocol import EpisodeResult
from amc.problem import PruningProblem
from amc.report.figures.of_layers import what_is_kept
from amc.report.figures.of_search import candidates, ratios_played, search_history
from amc.report.page import Page, Section
from amc.structure import Allocation
from amc.utils.counted import counted


def page_of_search(
    model: str, agent: str, problem: PruningProblem, episodes: Sequence[EpisodeResult], best: Allocation
) -> Page:
    """Builds the report of a search.

    Args:
        model: Name of the dense network.
        agent: The agent.
        problem: The decisions and the budget.
        episodes: The candidates.
        best: The best allocation.
    """
    sizes = {decision.name: decision.size for decision in problem.decisions}
    kept = dict(zip(sizes, problem.widths(best), strict=True))
    reward = max(episode.reward for episode in episodes)
    costs = [candidates(episodes, name, dense, problem.limits.get(name)) for name, dense in problem.dense_costs.items()]
    found = [search_history(episodes), *costs, ratios_played(episodes, sizes)]
    return Page(
        f"Search on {model}",
        f"The agent {agent} tried {counted(len(episodes), 'candidate')}; the best has a reward of {reward:.4f}. No "
        "network has been pruned yet: amc prune does that.",
        [
            Section("The search", figures=[figure for figure in found if figure is not None]),
            Section("Layer by layer", figures=[what_is_kept(sizes, {agent: kept})]),
        ],
    )
