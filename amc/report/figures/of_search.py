"""Figures of a search: its progress, and the costs of its candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agents.protocol import EpisodeResult
from amc.costs.metrics import noun_of
from amc.report.figures.figure import Figure
from amc.report.figures.palette import Palette

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas


def search_history(episodes: Sequence[EpisodeResult]) -> Figure:
    """Shows the reward of every candidate, and the best one so far."""
    rewards = [episode.reward for episode in episodes]
    best = [max(rewards[: index + 1]) for index in range(len(rewards))]

    def draw(canvas: Canvas, palette: Palette) -> None:
        axes = canvas.subplots()
        axes.plot(rewards, "o", color=palette.colour(0), alpha=0.5, label="candidate", markersize=4)
        axes.plot(best, "-", color=palette.colour(1), drawstyle="steps-post", label="best so far")
        whole_numbers(axes.xaxis)
        axes.set(xlabel="candidate", ylabel="reward")
        axes.legend(loc="lower right")

    return Figure(
        name="search",
        title="The search",
        caption="Reward of every candidate in the order in which the agent tried it, measured on images held out from "
        "the training data, before fine-tuning.",
        draw=draw,
        columns=("candidate", "reward", "best_so_far"),
        rows=tuple(zip(range(len(rewards)), rewards, best, strict=True)),
    )


def candidates(
    episodes: Sequence[EpisodeResult], metric: str, dense: float, limit: float | None = None
) -> Figure | None:
    """Shows cost and accuracy of the candidates, with the Pareto front; None if the cost is not known.

    Args:
        episodes: The candidates.
        metric: The cost, such as `"flops"`.
        dense: What the dense network costs.
        limit: The most that the budget allows; None if it does not bound this cost.
    """
    found = [
        (100 * episode.costs[metric] / dense, episode.score.accuracy, episode.episode)
        for episode in episodes
        if metric in episode.costs
    ]
    if not found or not dense:
        return None
    front = pareto_front([(cost, accuracy) for cost, accuracy, _ in found])

    def draw(canvas: Canvas, palette: Palette) -> None:
        axes = canvas.subplots()
        axes.plot(*_columns(found), "o", color=palette.colour(0), alpha=0.5, label="candidate", markersize=4)
        axes.plot(*_columns(front), "o-", color=palette.colour(1), drawstyle="steps-post", label="Pareto front")
        if limit is not None:
            axes.axvline(100 * limit / dense, color=palette.muted, linestyle="--", linewidth=1.2, label="budget")
        axes.set(xlabel=f"{noun_of(metric)}, % of the dense network", ylabel="accuracy on the search split, %")
        axes.ticklabel_format(useOffset=False)
        axes.locator_params(axis="x", nbins=6)
        axes.legend(loc="best")

    on_front = set(front)
    return Figure(
        name=f"candidates-{metric}",
        title=f"Accuracy against {noun_of(metric)}",
        caption="Every candidate of the search, before fine-tuning. No other candidate costs less than one on the "
        "Pareto front and is as accurate.",
        draw=draw,
        columns=("candidate", f"{metric}_percent", "search_accuracy_percent", "on_pareto_front"),
        rows=tuple((number, cost, score, int((cost, score) in on_front)) for cost, score, number in found),
    )


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Returns the distinct points `(cost, gain)` that no other one beats in both, the cheapest first."""
    front: list[tuple[float, float]] = []
    for cost, gain in sorted(set(points), key=lambda point: (point[0], -point[1])):
        if not front or gain > front[-1][1]:
            front.append((cost, gain))
    return front


def layers_by_candidate(
    canvas: Canvas,
    shares: Sequence[Sequence[float]],
    names: Sequence[str],
    label: str,
    candidates: tuple[float, float] | None = None,
) -> None:
    """Draws a heat map: a row for each layer, a column for each candidate, colours from 0 to 1.

    Args:
        canvas: Where to draw.
        shares: The values of each row.
        names: The layers.
        label: What the colours mean.
        candidates: Where the first column begins and the last one ends; they are counted from 0 if not given.
    """
    axes = canvas.subplots()
    extent = None if candidates is None else (*candidates, len(names) - 0.5, -0.5)
    image = axes.imshow(shares, aspect="auto", vmin=0, vmax=1, cmap="viridis", interpolation="nearest", extent=extent)
    axes.grid(visible=False)
    axes.set(xlabel="candidate")
    whole_numbers(axes.xaxis)
    label_layers(axes.yaxis, names)
    canvas.colorbar(image, ax=axes, label=label)


def ratios_played(episodes: Sequence[EpisodeResult], sizes: Mapping[str, int]) -> Figure | None:
    """Shows how much of each layer the candidates keep, as the agent learns; None if the layers do not fit.

    Args:
        episodes: The candidates.
        sizes: Units of each decision in the dense network, by name.
    """
    names = list(sizes)
    known = [episode for episode in episodes if set(names) <= set(episode.allocation.widths)]
    if not known or not names:
        return None
    shares = [[episode.allocation.widths[name] / sizes[name] for episode in known] for name in names]

    def draw(canvas: Canvas, palette: Palette) -> None:
        layers_by_candidate(canvas, shares, names, "share kept")

    return Figure(
        name="ratios",
        title="What the agent tried, layer by layer",
        caption="The share that each candidate keeps of every layer (rows, from input to output), exploration noise "
        "included. A row that stops changing is a layer on which the agent has settled.",
        draw=draw,
        columns=("layer", *(str(episode.episode) for episode in known)),
        rows=tuple((name, *row) for name, row in zip(names, shares, strict=True)),
        height=height_for(len(names)),
    )


def whole_numbers(axis: Any) -> None:
    """Puts the ticks of an axis at whole numbers only."""
    axis.get_major_locator().set_params(integer=True)


def label_layers(axis: Any, names: Sequence[str], most: int = 28) -> None:
    """Labels an axis with the names of layers; where there are many, with every second, third, ... one."""
    step = -(-len(names) // most)
    places = range(0, len(names), step)
    axis.set_ticks(list(places), [shortened(names[place]) for place in places], fontsize=8)


def shortened(name: str, most: int = 26) -> str:
    """Shortens a name in its middle."""
    return name if len(name) <= most else f"{name[: most // 2 - 1]}…{name[-most // 2 :]}"


def height_for(layers: int) -> float:
    """Returns the height of a figure with one row per layer, in inches."""
    return min(max(3.0, 1.6 + 0.17 * layers), 7.5)


def _columns(points: Sequence[tuple[float, ...]]) -> tuple[list[float], list[float]]:
    return [point[0] for point in points], [point[1] for point in points]
