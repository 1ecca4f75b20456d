"""Figures of layers: what each keeps, costs, and can lose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from amc.report.figures.figure import Figure
from amc.report.figures.of_search import height_for, label_layers, shortened
from amc.report.figures.palette import Palette

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas


_MOST_BARS = 500
"""Most layers whose costs are drawn as bars; with more, the bars would merge into a grey block."""


def what_is_kept(
    sizes: Mapping[str, int], allocations: Mapping[str, Mapping[str, int]], flops: Mapping[str, int] | None = None
) -> Figure:
    """Shows the share that every layer keeps, one line per agent, above the layers' shares of the FLOPs.

    Args:
        sizes: Units of each decision in the dense network, by name, in the order of execution.
        allocations: Units kept of each decision, by who chose them.
        flops: FLOPs of the layers that write each decision's units in the dense network; None if they are not known.
    """
    names = list(sizes)
    # A decision that an edited policy leaves out keeps everything.
    shares = {who: [kept.get(name, sizes[name]) / sizes[name] for name in names] for who, kept in allocations.items()}
    total = sum(flops.values()) if flops else 0
    drawn = flops and total and len(names) <= _MOST_BARS
    costs = [100 * flops.get(name, 0) / total for name in names] if flops and drawn else None

    def draw(canvas: Canvas, palette: Palette) -> None:
        if costs is None:
            lines = canvas.subplots()
        else:
            lines, bars = canvas.subplots(2, 1, sharex=True, height_ratios=(3, 1))
            bars.bar(range(len(names)), costs, color=palette.colour(7))
            bars.set_ylabel("% of\nFLOPs")
        for index, (who, values) in enumerate(shares.items()):
            broad = max(1.2, 3.2 - 0.7 * index)  # so that equal lines can be told apart
            lines.plot(
                range(len(names)), values, "o-", color=palette.colour(index), label=shortened(who), linewidth=broad
            )
        lines.set(ylabel="share kept", ylim=(0, 1.05))
        lines.legend(ncols=min(len(shares), 3), loc="lower center", bbox_to_anchor=(0.5, 1.0))
        label_layers((lines if costs is None else bars).xaxis, names)
        (lines if costs is None else bars).tick_params(axis="x", rotation=90)

    below = "" if costs is None else " The bars are the layers' shares of the dense network's prunable FLOPs."
    return Figure(
        name="kept",
        title="What every layer keeps",
        caption=f"Layers from input to output, one line for each agent that chose an allocation.{below}",
        draw=draw,
        columns=("layer", "dense_units", *shares, *(() if costs is None else ("flops_percent",))),
        rows=tuple(
            (
                name,
                sizes[name],
                *(values[place] for values in shares.values()),
                *(() if costs is None else (costs[place],)),
            )
            for place, name in enumerate(names)
        ),
        height=4.8,
    )


def sensitivity(errors: Mapping[str, Sequence[float]], keep_ratios: Sequence[float]) -> Figure | None:
    """Shows how much the outputs of each layer suffer if only it is pruned; None if that is not known.

    Args:
        errors: For each decision, the relative error at each of `keep_ratios`.
        keep_ratios: Shares kept, ascending.
    """
    if not errors:
        return None
    names = list(errors)
    floor = 1e-4
    clipped = [[max(value, floor) for value in errors[name]] for name in names]

    def draw(canvas: Canvas, palette: Palette) -> None:
        from matplotlib.colors import LogNorm

        axes = canvas.subplots()
        top = max(max(row) for row in clipped)
        norm = LogNorm(floor, max(top, 10 * floor))
        image = axes.imshow(clipped, aspect="auto", cmap="magma_r", norm=norm, interpolation="nearest")
        axes.grid(visible=False)
        axes.set(xlabel="share kept of this layer, the others whole")
        shown = range(len(keep_ratios))[1::2] if len(keep_ratios) > 6 else range(len(keep_ratios))
        axes.set_xticks(list(shown), [f"{keep_ratios[place]:.0%}" for place in shown], fontsize=9)
        label_layers(axes.yaxis, names)
        bar = canvas.colorbar(image, ax=axes, label="relative error after the refit")
        bar.ax.yaxis.set_major_formatter(lambda value, place: f"{value:g}")

    return Figure(
        name="sensitivity",
        title="How sensitive each layer is",
        caption="Squared error of what the layer's readers compute, relative to the dense network's, after the least-"
        "squares refit. Dark rows are layers that cannot lose much. It comes from the tables, without a forward pass.",
        draw=draw,
        columns=("layer", *(f"keep_{ratio:.3g}" for ratio in keep_ratios)),
        rows=tuple((name, *errors[name]) for name in names),
        height=height_for(len(names)),
    )


def class_changes(
    names: Sequence[str], images: Sequence[int], dense: Sequence[int], pruned: Sequence[int], most: int = 24
) -> Figure | None:
    """Shows which classes have lost or won most; None if there is nothing to show.

    Args:
        names: Of the classes.
        images: Number of test images of each class.
        dense: How many of them the dense network classifies correctly.
        pruned: How many of them the delivered network classifies correctly.
        most: How many classes to show, those that changed most.
    """
    rows: list[tuple[Any, ...]] = [
        (name, count, 100 * before / count, 100 * after / count, 100 * (after - before) / count)
        for name, count, before, after in zip(names, images, dense, pruned, strict=True)
        if count
    ]
    if not rows:
        return None
    shown = sorted(sorted(rows, key=lambda row: -abs(row[4]))[:most], key=lambda row: row[4])

    def draw(canvas: Canvas, palette: Palette) -> None:
        axes = canvas.subplots()
        colours = [palette.colour(1) if row[4] < 0 else palette.colour(0) for row in shown]
        axes.barh(range(len(shown)), [row[4] for row in shown], color=colours)
        axes.axvline(0, color=palette.muted, linewidth=1)
        axes.set(xlabel="change of the class's accuracy, points")
        label_layers(axes.yaxis, [str(row[0]) for row in shown])
        axes.invert_yaxis()

    left_out = f" The {most} that changed most, of {len(rows)}." if len(rows) > most else ""
    return Figure(
        name="classes",
        title="Which classes lost most",
        caption=f"Accuracy on the test images of each class, delivered less dense.{left_out} With few images a class "
        "a bar is a few images: look at the table behind the figure.",
        draw=draw,
        columns=("class", "images", "dense_percent", "delivered_percent", "change_points"),
        rows=tuple(rows),
        height=height_for(len(shown)),
    )
