"""Means with intervals, as Markdown."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from amc.utils.intervals import mean_with_interval

HEADING = (
    "budget",
    "candidates",
    "agent",
    "seeds",
    "FLOPs",
    "speed-up",
    "compression",
    "reward",
    "before fine-tuning",
    "after",
    "ahead of uniform",
)
"""Columns of the table of a study."""
_REFERENCE = "uniform"


def agents_table(records: Iterable[Mapping[str, Any]]) -> str:
    """Summarises the cells of a study as Markdown; see `summary_rows`."""
    return markdown(HEADING, summary_rows(records))


def agents_latex(records: Iterable[Mapping[str, Any]]) -> str:
    """Summarises the cells of a study as a LaTeX `tabular`, which needs the package booktabs; see `summary_rows`."""
    rows = [[_latex(cell) for cell in row] for row in [HEADING, *summary_rows(records)]]
    lines = [" & ".join(row) + r" \\" for row in rows]
    columns = "l" * len(HEADING)
    return "\n".join(
        [
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def agents_csv(records: Iterable[Mapping[str, Any]]) -> str:
    """Returns the cells of a study as CSV, one line per search, nothing rounded."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = ("agent", "budget", "metric", "episodes", "seed", "reward", "pruned", "finetuned", "dense")
    writer.writerow((*names, "flops", "params", "dense_flops", "dense_params"))
    for record in records:
        costs = [record.get(kind, {}).get(name) for kind in ("costs", "dense_costs") for name in ("flops", "params")]
        writer.writerow((*(record.get(name) for name in names), *costs))
    return out.getvalue()


def summary_rows(records: Iterable[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Summarises the cells of a study: the dense network, then one row per agent, budget and number of candidates.

    Within a budget and a number of candidates the best reward comes first. The speed-up is theoretical, dense over
    pruned FLOPs, and the compression dense over pruned parameters, as Blalock et al. (2020, arXiv:2003.03033)
    recommend. The difference to the uniform allocation is that of the last accuracy measured, paired by seed.

    Args:
        records: As `AgentsStudy` writes them.
    """
    found = list(records)
    rows: dict[tuple[float, int, str], list[Mapping[str, Any]]] = {}
    for record in found:
        rows.setdefault((record["budget"], record["episodes"], record["agent"]), []).append(record)

    def order(row: tuple[tuple[float, int, str], list[Mapping[str, Any]]]) -> tuple[float, int, float]:
        (budget, episodes, _), cells = row
        return -budget, -episodes, -statistics.fmean(cell["reward"] for cell in cells)

    return [*_dense_row(found), *(_row(*key, cells, found) for key, cells in sorted(rows.items(), key=order))]


def share_or_count(budget: float) -> str:
    """Describes a budget as the user gave it: a share in percent, or a count."""
    return f"{100 * budget:g}%" if budget <= 1 else f"{budget:,.0f}"


def markdown(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a Markdown table."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def _dense_row(records: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Returns the row of the dense network; none if an earlier version did not measure it."""
    for record in records:
        if record.get("dense") is not None and _is_counted(record.get("dense_costs")):
            flops = f"{record['dense_costs']['flops']:,.0f}"
            return [("100%", "", "dense", "", flops, "1.00", "1.00", "", f"{record['dense']:.2f}", "", "")]
    return []


def _row(
    budget: float, episodes: int, agent: str, cells: Sequence[Mapping[str, Any]], everyone: Sequence[Mapping[str, Any]]
) -> tuple[str, ...]:
    finetuned = [cell["finetuned"] for cell in cells if cell["finetuned"] is not None]
    return (
        f"{share_or_count(budget)} {cells[0]['metric']}",
        str(episodes),
        f"`{agent}`",
        str(len(cells)),
        *_sizes(cells),
        mean_with_interval([cell["reward"] for cell in cells], 4),
        mean_with_interval([cell["pruned"] for cell in cells], 2),
        mean_with_interval(finetuned, 2),
        _ahead(cells, everyone),
    )


def _is_counted(costs: Mapping[str, float] | None) -> bool:
    """Returns whether the costs that the table shows are known."""
    return costs is not None and {"flops", "params"} <= set(costs)


def _sizes(cells: Sequence[Mapping[str, Any]]) -> tuple[str, str, str]:
    """Formats FLOPs, theoretical speed-up and compression, means over seeds."""
    known = [cell for cell in cells if _is_counted(cell.get("costs")) and _is_counted(cell.get("dense_costs"))]
    if not known:
        return "-", "-", "-"
    flops = statistics.fmean(cell["costs"]["flops"] for cell in known)
    ratios = [
        statistics.fmean(cell["dense_costs"][name] / max(cell["costs"][name], 1) for cell in known)
        for name in ("flops", "params")
    ]
    return f"{flops:,.0f}", f"{ratios[0]:.2f}", f"{ratios[1]:.2f}"


def _ahead(cells: Sequence[Mapping[str, Any]], everyone: Sequence[Mapping[str, Any]]) -> str:
    """Formats an agent's lead over the uniform allocation; empty for uniform itself, and if uniform was not played."""
    measure = "finetuned" if all(cell["finetuned"] is not None for cell in cells) else "pruned"
    base = {
        record["seed"]: record[measure]
        for record in everyone
        if record["agent"] == _REFERENCE and record["budget"] == cells[0]["budget"] and record[measure] is not None
    }
    if not base or cells[0]["agent"] == _REFERENCE:
        return ""
    mean = statistics.fmean(base.values())
    return mean_with_interval([cell[measure] - base.get(cell["seed"], mean) for cell in cells], 2)


def _latex(text: str) -> str:
    """Escapes LaTeX's special characters."""
    for sign in "\\&%$#_{}":
        text = text.replace(sign, {"\\": r"\textbackslash "}.get(sign, f"\\{sign}"))
    return text.replace("±", r"$\pm$").replace("`", "")
