"""Figures of time: what a model of the device predicts, and what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from amc.report.figures.figure import Figure
from amc.report.figures.palette import Palette

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

Point = tuple[float, float]


def predicted_against_measured(points: Sequence[Point], own: Point | None = None) -> Figure | None:
    """Shows how well a profile predicts the time of networks that it has not seen; None if there are none.

    Args:
        points: Predicted and measured time of each, as shares of the dense network's.
        own: The same of the network that the run delivers; None if it is not known as a share.
    """
    if not points:
        return None
    everyone = [*points, *([] if own is None else [own])]

    def draw(canvas: Canvas, palette: Palette) -> None:
        axes = canvas.subplots()
        ends = [min(min(point) for point in everyone), max(max(point) for point in everyone)]
        axes.plot(ends, ends, color=palette.muted, linewidth=1.2, label="as predicted")
        predicted, measured = [point[0] for point in points], [point[1] for point in points]
        axes.plot(predicted, measured, "o", color=palette.colour(0), alpha=0.7, label="unseen network")
        if own is not None:
            axes.plot(own[0], own[1], "D", color=palette.colour(1), markersize=8, label="delivered")
        axes.set(xlabel="predicted, share of the dense network's time", ylabel="measured, the same")
        axes.legend(loc="best")

    return Figure(
        name="latency-model",
        title="Predicted against measured time",
        caption="Each point is a network that the model of the device was not fitted to. On the line the prediction is "
        "right; above it the network is slower than predicted.",
        draw=draw,
        columns=("network", "predicted_share", "measured_share"),
        rows=tuple(
            ("delivered" if index == len(points) else f"unseen {index}", *point) for index, point in enumerate(everyone)
        ),
    )
