"""Figures of training: curves, and rounds of a schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from amc.report.figures.figure import Figure
from amc.report.figures.of_search import shortened, whole_numbers
from amc.report.figures.palette import Palette

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas


def fine_tuning(curves: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure | None:
    """Shows loss and accuracy by epoch, one line per agent; None if nothing was trained.

    Args:
        curves: Records of epochs, by who chose the allocation: `epoch`, `loss`, `accuracy` (search split, percent).
    """
    known = {who: [record for record in curve if record.get("accuracy") is not None] for who, curve in curves.items()}
    known = {who: curve for who, curve in known.items() if curve}
    if not known:
        return None

    def draw(canvas: Canvas, palette: Palette) -> None:
        above, below = canvas.subplots(2, 1, sharex=True)
        for index, (who, curve) in enumerate(known.items()):
            epochs = [record["epoch"] for record in curve]
            style: dict[str, Any] = {"color": palette.colour(index), "label": shortened(who)}
            above.plot(epochs, [record["accuracy"] for record in curve], "o-", **style)
            trained = [record for record in curve if record.get("loss") is not None]
            below.plot([record["epoch"] for record in trained], [record["loss"] for record in trained], "o-", **style)
        above.set(ylabel="search split, %")
        below.set(xlabel="epoch", ylabel="training loss")
        whole_numbers(below.xaxis)
        above.legend(ncols=min(len(known), 3), loc="lower center", bbox_to_anchor=(0.5, 1.0))

    rows = [(who, record["epoch"], record.get("loss"), record["accuracy"]) for who in known for record in known[who]]
    return Figure(
        name="fine-tuning",
        title="Fine-tuning",
        caption="Accuracy on the search split and mean training loss after each epoch. Epoch 0 is the network as it "
        "was pruned and refit.",
        draw=draw,
        columns=("network", "epoch", "training_loss", "search_accuracy_percent"),
        rows=tuple(rows),
        height=4.6,
    )


def rounds(records: Sequence[Mapping[str, Any]]) -> Figure | None:
    """Shows what each round of a schedule loses by pruning, and what its training recovers.

    Args:
        records: Of rounds, as `summary.json` has them; None is returned for fewer than two.
    """
    if len(records) < 2:
        return None
    budgets = [100 * record["budget"] for record in records]
    pruned = [record["search_pruned"] for record in records]
    trained = [record["search_trained"] for record in records]

    def draw(canvas: Canvas, palette: Palette) -> None:
        axes = canvas.subplots()
        axes.plot(budgets, trained, "o-", color=palette.colour(0), label="after the round's training")
        axes.plot(budgets, pruned, "o--", color=palette.colour(1), label="at the moment of pruning")
        axes.set(xlabel="budget of the round, % of the dense cost", ylabel="accuracy on the search split, %")
        axes.invert_xaxis()
        axes.legend(loc="best")

    return Figure(
        name="rounds",
        title="Round by round",
        caption="The gap between the lines is what pruning loses, and what training recovers.",
        draw=draw,
        columns=("budget_percent", "search_pruned_percent", "search_trained_percent"),
        rows=tuple(zip(budgets, pruned, trained, strict=True)),
    )
