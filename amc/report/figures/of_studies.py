"""Figures of studies: agents over budgets, agents against the uniform allocation, rewards against accuracy."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from amc.costs.metrics import noun_of
from amc.report.figures.figure import Figure
from amc.report.figures.of_search import shortened
from amc.report.figures.palette import Palette
from amc.utils.intervals import half_width, paired_differences

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

Record = Mapping[str, Any]
_REFERENCE, _LEARNED = "uniform", "ddpg"
_SERIES = 8
"""Lines that the palette tells apart by colour alone."""
_MEASURES = {"pruned": "before fine-tuning", "finetuned": "after fine-tuning"}


def trade_off(records: Sequence[Record], measure: str, dense: float | None = None) -> Figure | None:
    """Shows test accuracy over budgets, one line per agent; None for fewer than two budgets.

    Args:
        records: The cells of a study, as `study.jsonl` has them, of one number of candidates.
        measure: `"pruned"` or `"finetuned"`.
        dense: Test accuracy of the dense network, drawn as a line; None if it is not known.
    """
    lines = _means(records, measure)
    ticks = sorted({100 * budget for points in lines.values() for budget, _, _ in points}, reverse=True)
    if len(ticks) < 2:
        return None

    named = list(lines) if len(lines) <= _SERIES else _leading(lines)

    def draw(canvas: Canvas, palette: Palette) -> None:
        axes = canvas.subplots()
        for agent in lines.keys() - named:
            budgets, means = [100 * budget for budget, _, _ in lines[agent]], [mean for _, mean, _ in lines[agent]]
            axes.plot(budgets, means, "-", color=palette.muted, linewidth=0.8, alpha=0.6)
        for index, agent in enumerate(named):
            axes.errorbar(
                [100 * budget for budget, _, _ in lines[agent]],
                [mean for _, mean, _ in lines[agent]],
                yerr=[half or 0.0 for _, _, half in lines[agent]],
                fmt="o-",
                color=palette.colour(index),
                label=shortened(agent),
                capsize=3,
            )
        if len(named) < len(lines):
            axes.plot([], [], "-", color=palette.muted, linewidth=0.8, label=f"{len(lines) - len(named)} others")
        if dense is not None:
            axes.axhline(dense, color=palette.muted, linestyle="--", linewidth=1.2, label="dense")
        metric = noun_of(str(records[0]["metric"]))
        axes.set(xlabel=f"budget, % of the dense {metric}", ylabel="test accuracy, %")
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.invert_xaxis()
        axes.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize=9)

    words = _MEASURES[measure]
    few = "" if len(named) == len(lines) else " Named are the uniform allocation, ddpg, and who is best somewhere."
    return Figure(
        name=f"trade-off-{measure}",
        title=f"Accuracy over budgets, {words}",
        caption=f"Mean test accuracy {words} over seeds; bars are 95% intervals of the mean by Student's t.{few}",
        draw=draw,
        columns=("agent", "budget_percent", "mean_percent", "half_interval"),
        rows=tuple((agent, 100 * b, mean, half) for agent, points in lines.items() for b, mean, half in points),
        height=4.6,
    )


def _leading(lines: Mapping[str, list[tuple[float, float, float | None]]]) -> list[str]:
    """Returns the learned allocation, the uniform one, and those that are best at some budget, without more."""
    best: dict[float, tuple[float, str]] = {}
    for agent, points in lines.items():
        for budget, mean, _ in points:
            best[budget] = max(best.get(budget, (mean, agent)), (mean, agent), key=lambda pair: pair[0])
    first = [agent for agent in (_LEARNED, _REFERENCE) if agent in lines]
    return list(dict.fromkeys([*first, *(agent for _, agent in best.values())]))[:_SERIES]


def standings(records: Sequence[Record], measure: str) -> Figure | None:
    """Shows every agent's accuracy at every budget, coloured by the points behind the best; None for few agents.

    Args:
        records: The cells of a study, of one number of candidates.
        measure: `"pruned"` or `"finetuned"`.
    """
    lines = _means(records, measure)
    budgets = sorted({budget for points in lines.values() for budget, _, _ in points}, reverse=True)
    if len(lines) <= _SERIES:
        return None
    means = {agent: {budget: mean for budget, mean, _ in points} for agent, points in lines.items()}
    best = {budget: max(found[budget] for found in means.values() if budget in found) for budget in budgets}
    behind = {
        agent: [best[b] - found[b] if b in found else math.nan for b in budgets] for agent, found in means.items()
    }
    agents = sorted(behind, key=lambda agent: statistics.fmean(gap for gap in behind[agent] if not math.isnan(gap)))

    def draw(canvas: Canvas, palette: Palette) -> None:
        from matplotlib.colors import PowerNorm

        axes, gaps = canvas.subplots(), [behind[agent] for agent in agents]
        most = max(1.0, *(gap for row in gaps for gap in row if not math.isnan(gap)))
        norm = PowerNorm(0.5, 0, most)  # of small gaps one wants to see more
        axes.imshow(gaps, aspect="auto", cmap="cividis_r", norm=norm, interpolation="nearest")
        axes.grid(visible=False)
        for row, agent in enumerate(agents):
            for column, budget in enumerate(budgets):
                if budget in means[agent]:
                    is_dark = norm(gaps[row][column]) > 0.5
                    text = f"{means[agent][budget]:.2f}"
                    colour = "white" if is_dark else "black"
                    axes.text(column, row, text, ha="center", va="center", fontsize=9, color=colour)
        axes.set_yticks(range(len(agents)), [shortened(agent) for agent in agents], fontsize=9)
        axes.set_xticks(range(len(budgets)), [f"{100 * budget:g}%" for budget in budgets])
        axes.set(xlabel="budget")

    words = _MEASURES[measure]
    return Figure(
        name=f"standings-{measure}",
        title=f"All agents at all budgets, {words}",
        caption=f"Mean test accuracy {words} in percent; the darker, the farther behind the best of its column. Those "
        "that are the least behind on average come first; gaps within the intervals show no order.",
        draw=draw,
        columns=("agent", "budget_percent", "mean_percent", "points_behind_best"),
        rows=tuple(
            (agent, 100 * budget, means[agent][budget], gap)
            for agent in agents
            for budget, gap in zip(budgets, behind[agent], strict=True)
            if budget in means[agent]
        ),
        height=1.4 + 0.24 * len(agents),
    )


def differences(records: Sequence[Record], measure: str) -> Figure | None:
    """Shows how far each agent is ahead of the uniform allocation at the same budget; None without that allocation.

    Args:
        records: The cells of a study, of one number of candidates.
        measure: `"pruned"` or `"finetuned"`.
    """
    rows = differences_from_uniform(records, measure)
    if not rows:
        return None
    agents = list(dict.fromkeys(row[0] for row in rows))
    budgets = list(dict.fromkeys(row[1] for row in rows))

    def draw(canvas: Canvas, palette: Palette) -> None:
        axes = canvas.subplots()
        for index, budget in enumerate(budgets):
            shift = 0.6 * ((index + 0.5) / len(budgets) - 0.5)
            found = [row for row in rows if row[1] == budget]
            places = [agents.index(row[0]) + shift for row in found]
            axes.errorbar(
                [row[2] for row in found],
                places,
                xerr=[row[3] or 0.0 for row in found],
                fmt="o",
                color=palette.colour(index),
                label=f"{100 * budget:g}%",
                capsize=3,
            )
        axes.axvline(0, color=palette.muted, linewidth=1)
        axes.set_yticks(range(len(agents)), [shortened(agent) for agent in agents], fontsize=9)
        axes.invert_yaxis()
        axes.set(xlabel="test accuracy minus that of uniform, points")
        axes.legend(ncols=5, loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize=9)

    return Figure(
        name=f"differences-{measure}",
        title=f"Against the uniform allocation, {_MEASURES[measure]}",
        caption="Difference at the same budget, paired by seed where the uniform allocation has several; bars are 95% "
        "intervals. An interval that crosses zero shows no difference.",
        draw=draw,
        columns=("agent", "budget", "mean_difference_points", "half_interval"),
        rows=tuple(rows),
        height=max(3.0, 1.6 + (0.2 + 0.08 * len(budgets)) * len(agents)),
    )


def differences_from_uniform(records: Sequence[Record], measure: str) -> list[tuple[str, float, float, float | None]]:
    """Returns, by agent and budget, the mean difference from the uniform allocation, and half its 95% interval."""
    base: dict[float, dict[int, float]] = {}
    for record in records:
        if record["agent"] == _REFERENCE and record.get(measure) is not None:
            base.setdefault(record["budget"], {})[record["seed"]] = record[measure]
    values: dict[tuple[str, float], list[tuple[int, float]]] = {}
    for record in records:
        if record["agent"] != _REFERENCE and record["budget"] in base and record.get(measure) is not None:
            values.setdefault((record["agent"], record["budget"]), []).append((record["seed"], record[measure]))
    found = {key: paired_differences(own, base[key[1]]) for key, own in values.items()}
    return [(agent, budget, statistics.fmean(all_), half_width(all_)) for (agent, budget), all_ in found.items()]


def reward_against_accuracy(records: Sequence[Record]) -> Figure | None:
    """Shows whether the reward ranks networks as fine-tuning does; None for fewer than three networks.

    Args:
        records: The cells of a study; those that were not fine-tuned are left out.
    """
    tuned = [record for record in records if record.get("finetuned") is not None]
    if len(tuned) < 3:
        return None
    rewards, after = [record["reward"] for record in tuned], [record["finetuned"] for record in tuned]
    from scipy.stats import kendalltau  # takes a second to load

    tau = float(kendalltau(rewards, after).statistic)

    def draw(canvas: Canvas, palette: Palette) -> None:
        axes = canvas.subplots()
        axes.plot(rewards, after, "o", color=palette.colour(0), alpha=0.7)
        axes.set(xlabel="reward in the search", ylabel="test accuracy after fine-tuning, %")
        axes.set_title(f"Kendall's tau {tau:.2f}, {len(tuned)} networks", fontsize=11)

    return Figure(
        name="reward",
        title="Does the reward rank as fine-tuning does?",
        caption="One point per network. A tau of 1 means the same order, 0 no relation. Networks of several budgets "
        "differ by their size alone; within one budget tau is lower.",
        draw=draw,
        columns=("agent", "budget", "seed", "reward", "finetuned_percent"),
        rows=tuple((r["agent"], r["budget"], r["seed"], r["reward"], r["finetuned"]) for r in tuned),
    )


def _means(records: Sequence[Record], measure: str) -> dict[str, list[tuple[float, float, float | None]]]:
    """Returns, by agent, its budgets in descending order, each with the mean and half the interval."""
    values: dict[str, dict[float, list[float]]] = {}
    for record in records:
        if record.get(measure) is not None:
            values.setdefault(record["agent"], {}).setdefault(record["budget"], []).append(record[measure])
    return {
        agent: [(b, statistics.fmean(found[b]), half_width(found[b])) for b in sorted(found, reverse=True)]
        for agent, found in values.items()
    }
