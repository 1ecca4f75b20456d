"""Figures of what an agent learns while it searches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from amc.report.figures.figure import Figure
from amc.report.figures.of_search import height_for, layers_by_candidate, whole_numbers
from amc.report.figures.palette import Palette

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas


def actor_ratios(episodes: Sequence[int], ratios: Sequence[Mapping[str, float]]) -> Figure | None:
    """Shows the pruning ratios that the actor gives without noise, as it learns; None if they are not known.

    Args:
        episodes: Numbers of the candidates.
        ratios: At each, the ratio of every decision by name.
    """
    known = [(number, found) for number, found in zip(episodes, ratios, strict=True) if found]
    names = list(known[-1][1]) if known else []
    known = [(number, found) for number, found in known if list(found) == names]
    if len(known) < 2:
        return None
    rows = [[found[name] for _, found in known] for name in names]

    def draw(canvas: Canvas, palette: Palette) -> None:
        layers_by_candidate(canvas, rows, names, "pruning ratio", (known[0][0] - 0.5, known[-1][0] + 0.5))

    return Figure(
        name="actor-ratios",
        title="What the actor has learnt, layer by layer",
        caption="The pruning ratio (the fraction removed) that the actor gives every layer without noise when it walks "
        "through the network, at each candidate, before the budget bounds it. It starts with the first gradient step.",
        draw=draw,
        columns=("layer", *(str(number) for number, _ in known)),
        rows=tuple((name, *row) for name, row in zip(names, rows, strict=True)),
        height=height_for(len(names)),
    )


def losses(episodes: Sequence[int], actor: Sequence[float | None], critic: Sequence[float | None]) -> Figure | None:
    """Shows the losses of actor and critic; None if fewer than two are known.

    Args:
        episodes: Numbers of the candidates.
        actor: Loss of the last gradient step at each.
        critic: The same.
    """
    rows = [row for row in zip(episodes, actor, critic, strict=True) if row[1] is not None]
    if len(rows) < 2:
        return None

    def draw(canvas: Canvas, palette: Palette) -> None:
        above, below = canvas.subplots(2, 1, sharex=True)
        lines: tuple[tuple[Any, int, str], ...] = ((above, 1, "critic"), (below, 2, "actor"))
        for place, (axes, column, name) in enumerate(lines):
            found = [(row[0], row[3 - column]) for row in rows if row[3 - column] is not None]
            axes.plot([number for number, _ in found], [loss for _, loss in found], color=palette.colour(place))
            axes.set(ylabel=f"loss, {name}")
        below.set(xlabel="candidate")
        whole_numbers(below.xaxis)

    return Figure(
        name="losses",
        title="What actor and critic learn from",
        caption="Losses of the last gradient step before each candidate ends. The critic's is its squared error on "
        "standardised rewards; the actor's is the critic's value with its sign changed, so that lower is better.",
        draw=draw,
        columns=("candidate", "actor_loss", "critic_loss"),
        rows=tuple(rows),
        height=4.6,
    )
