"""Means with intervals, as Markdown."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from amc.utils.intervals import mean_with_interval, paired_differences
from amc.utils.printable import markdown_line, no_formula, printable

HEADING = (
    "budget",
    "candidates",
    "agent",
    "seeds",
    "FLOPs",
    "speed-up",
    "compression",
    "time",
    "reward",
    "before fine-tuning",
    "top-5 before",
    "after",
    "top-5 after",
    "ahead of uniform",
)
"""Columns of the table of a study."""
_OPTIONAL = ("time", "top-5 before", "top-5 after", "problem")
"""Columns that are left out where they would be empty."""
_NESTED = (
    ("flops", "costs", "flops"),
    ("params", "costs", "params"),
    ("dense_flops", "dense_costs", "flops"),
    ("dense_params", "dense_costs", "params"),
    ("dense_latency_ms", "latency_ms", "dense"),
    ("latency_ms", "latency_ms", "pruned"),
    ("latency_ratio", "latency_ms", "ratio"),
)
"""Columns of the CSV, and where a record has them."""
_REFERENCE = "uniform"
_LATEX = str.maketrans(
    {
        **{sign: f"\\{sign}" for sign in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "^": r"\textasciicircum{}",
        "~": r"\textasciitilde{}",
        "±": r"$\pm$",
        "`": "",
    }
)
"""What LaTeX's special characters become."""
Records = Sequence[Mapping[str, Any]]


def agents_table(records: Iterable[Mapping[str, Any]]) -> str:
    """Summarises the cells of a study as Markdown; see `summary`."""
    return markdown(*summary(list(records)))


def agents_latex(records: Iterable[Mapping[str, Any]]) -> str:
    """Summarises the cells of a study as a LaTeX `tabular`, which needs the package booktabs; see `summary`."""
    heading, rows = summary(list(records))
    lines = [" & ".join(map(_latex, row)) + r" \\" for row in [heading, *rows]]
    columns = "l" * len(heading)
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
    names = ("problem", "agent", "budget", "metric", "episodes", "seed", "reward", "pruned", "finetuned", "dense")
    top5 = ("pruned_top5", "finetuned_top5", "dense_top5")
    writer.writerow((*names, *(column for column, _, _ in _NESTED), *top5))
    for record in records:
        nested = ((record.get(kind) or {}).get(name) for _, kind, name in _NESTED)
        writer.writerow(map(no_formula, (*map(record.get, names), *nested, *map(record.get, top5))))
    return out.getvalue()


def summary(records: Records) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Summarises the cells of a study: the dense network, then one row per agent, budget and number of candidates.

    Within a budget and a number of candidates the best reward comes first. The speed-up is theoretical, dense over
    pruned FLOPs, and the compression dense over pruned parameters, as Blalock et al. (2020, arXiv:2003.03033)
    recommend; the time is measured, pruned over dense. The difference to the uniform allocation is that of the last
    accuracy measured, paired by seed. Of a study with several problems each has rows of its own.

    Args:
        records: As `AgentsStudy` writes them; those of several problems name theirs under `problem`.

    Returns:
        The heading, and the rows, without columns that would be empty.
    """
    problems = list(dict.fromkeys(str(record.get("problem") or "") for record in records))
    rows = []
    for problem in problems:
        own = [record for record in records if str(record.get("problem") or "") == problem]
        rows += [(problem, *row) for row in _rows_of_problem(own)]
    heading = ("problem", *HEADING)
    kept = [
        place
        for place, name in enumerate(heading)
        if name not in _OPTIONAL or any(row[place].strip("-") for row in rows)
    ]
    return tuple(heading[place] for place in kept), [tuple(row[place] for place in kept) for row in rows]


def _rows_of_problem(records: Records) -> list[tuple[str, ...]]:
    """Returns the rows of one problem."""
    rows: dict[tuple[float, int, str], list[Mapping[str, Any]]] = {}
    for record in records:
        rows.setdefault((record["budget"], record["episodes"], record["agent"]), []).append(record)

    def order(row: tuple[tuple[float, int, str], list[Mapping[str, Any]]]) -> tuple[float, int, float]:
        (budget, episodes, _), cells = row
        return -budget, -episodes, -statistics.fmean(cell["reward"] for cell in cells)

    return [*_dense_row(records), *(_row(*key, cells, records) for key, cells in sorted(rows.items(), key=order))]


def share_or_count(budget: float) -> str:
    """Describes a budget as the user gave it: a share in percent, or a count."""
    return f"{100 * budget:g}%" if budget <= 1 else f"{budget:,.0f}"


def markdown(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a Markdown table."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "".join(f"{markdown_line(line)}\n" for line in lines)


def _dense_row(records: Records) -> list[tuple[str, ...]]:
    """Returns the row of the dense network; none if an earlier version did not measure it."""
    for record in records:
        if record.get("dense") is not None and _is_counted(record.get("dense_costs")):
            top5 = record.get("dense_top5")
            cells = {
                "budget": "100%",
                "agent": "dense",
                "FLOPs": f"{record['dense_costs']['flops']:,.0f}",
                "speed-up": "1.00",
                "compression": "1.00",
                "before fine-tuning": f"{record['dense']:.2f}",
                "top-5 before": "" if top5 is None else f"{top5:.2f}",
            }
            return [tuple(cells.get(name, "") for name in HEADING)]
    return []


def _row(
    budget: float, episodes: int, agent: str, cells: Sequence[Mapping[str, Any]], everyone: Records
) -> tuple[str, ...]:
    return (
        f"{share_or_count(budget)} {cells[0]['metric']}",
        str(episodes),
        f"`{agent}`",
        str(len(cells)),
        *_sizes(cells),
        mean_with_interval([cell["latency_ms"]["ratio"] for cell in cells if cell.get("latency_ms")], 2),
        mean_with_interval([cell["reward"] for cell in cells], 4),
        *(_mean_of(cells, name) for name in ("pruned", "pruned_top5", "finetuned", "finetuned_top5")),
        _ahead(cells, everyone),
    )


def _mean_of(cells: Records, name: str) -> str:
    """Formats the mean of a figure over the cells that have it."""
    return mean_with_interval([cell[name] for cell in cells if cell.get(name) is not None], 2)


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
    uniform = [r for r in everyone if r["agent"] == _REFERENCE and r["budget"] == cells[0]["budget"]]
    measure = "finetuned" if all(cell["finetuned"] is not None for cell in (*cells, *uniform)) else "pruned"
    base = {record["seed"]: record[measure] for record in uniform}
    if not base or cells[0]["agent"] == _REFERENCE:
        return ""
    return mean_with_interval(paired_differences(((cell["seed"], cell[measure]) for cell in cells), base), 2)


def _latex(text: str) -> str:
    """Escapes LaTeX's special characters; `^^5c` is a backslash to it."""
    return printable(text).translate(_LATEX)
