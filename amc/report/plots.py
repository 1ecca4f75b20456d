"""The pictures of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from agents.protocol import EpisodeResult
from amc.problem import PruningProblem
from amc.utils.durable_files import replacing


def plot_run(
    path: Path, problem: PruningProblem, episodes: Sequence[EpisodeResult], allocations: Mapping[str, Sequence[int]]
) -> None:
    """Draws the reward per episode and the share that every layer keeps.

    Args:
        path: PNG file to write.
        problem: The decisions.
        episodes: The search.
        allocations: Widths by the name of whoever chose them.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 8), layout="constrained")
    FigureCanvasAgg(figure)
    rewards, kept = figure.subplots(2, 1)
    values = [episode.reward for episode in episodes]
    best = [max(values[: index + 1]) for index in range(len(values))]
    rewards.plot(values, ".", label="episode", alpha=0.6)
    rewards.plot(best, "-", label="best so far", drawstyle="steps-post")
    rewards.xaxis.get_major_locator().set_params(integer=True)
    rewards.set(xlabel="episode", ylabel="reward", title="Search")
    rewards.legend()
    names = [decision.name for decision in problem.decisions]
    for index, (name, widths) in enumerate(allocations.items()):
        shares = [width / decision.size for width, decision in zip(widths, problem.decisions, strict=True)]
        kept.plot(range(len(names)), shares, "o-", label=name, **_band(index))
    kept.set(ylabel="share kept", ylim=(0, 1.05), title="What every layer keeps")
    kept.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
    kept.legend()
    with replacing(path) as partial:
        figure.savefig(partial, dpi=120, format="png")


def _band(index: int) -> dict[str, float]:
    """Returns the width of a line: the first is the broadest, so that it shows under an equal one."""
    breadth = max(1.0, 4.0 - index)
    return {"linewidth": breadth, "markersize": 3.0 + breadth}
