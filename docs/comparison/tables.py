"""Fills the tables of Markdown pages from the files beside this script.

    python docs/comparison/tables.py README.md docs/comparison/README.md

A table stands between `<!-- table: NAME -->` and `<!-- end of table -->`; what stood there is replaced. The names are
those of `tables_by_name`. A test compares the pages with what this script makes, so that no figure in them is typed.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from amc.study.page import study_records
from amc.study.problems import played_folders
from amc.study.problems_page import leads_table, problem_records
from amc.study.tables import agents_table, markdown

HERE = Path(__file__).parent
STUDIES, NOTED = HERE / "studies", HERE / "noted"
BLOCK = re.compile(r"(<!-- table: ([^>]+?) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def main() -> None:
    """Fills the pages that the command line names."""
    for name in sys.argv[1:]:
        page = Path(name)
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")


def filled(text: str) -> str:
    """Returns the text of a page with every table made again."""
    tables = tables_by_name()

    def table(found: re.Match[str]) -> str:
        if found[2] not in tables:
            raise SystemExit(f"no table {found[2]!r}; there are {', '.join(tables)}")
        return f"{found[1]}{tables[found[2]]()}{found[3]}"

    return BLOCK.sub(table, text)


def tables_by_name() -> dict[str, Callable[[], str]]:
    """Returns what makes each table."""
    tables: dict[str, Callable[[], str]] = {
        "first run": lambda: f"```\n{(NOTED / 'first_run.txt').read_text(encoding='utf-8')}```\n",
        "resnet56": resnet56,
        "leads": lambda: leads_table(problem_records(STUDIES)),
        "leads after": lambda: leads_table(problem_records(STUDIES), ["finetuned"]),
    }
    return tables | {name: partial(agents, place) for name, place in played_folders(STUDIES)}


def agents(place: Path) -> str:
    """Makes the table of a study."""
    return agents_table(study_records(place))


def resnet56() -> str:
    """Makes the table of what the project reaches on ResNet-56, from the figures that its runs have written."""
    found: Mapping[str, Any] = json.loads((NOTED / "resnet56.json").read_text(encoding="utf-8"))
    learned, uniform, dense = found["learned"], found["uniform"], found["dense"]
    limit, flops, aims = int(found["budget"] * dense["flops"]), learned[0]["flops"], found["aims"]
    search, tuning = found["search"], found["finetuning"]
    minutes, seconds = divmod(search["seconds"], 60)
    rows = [
        (
            f"time of the search, {search['candidates']} candidates",
            f"{minutes} min {seconds} s",
            "none",
            aims["search"],
        ),
        (
            f"FLOPs, of {limit:,} allowed",
            f"{flops:,}: under by {100 * (limit - flops) / limit:.2f} %",
            "",
            aims["flops"],
        ),
        (
            "test top-1 after refit, before fine-tuning",
            _seeds(learned, "pruned"),
            f"{uniform[0]['pruned']:.2f}",
            aims["pruned"],
        ),
        (
            f"test top-1 after {tuning['epochs']} epochs of fine-tuning ({tuning['minutes']} min)",
            _seeds(learned, "finetuned"),
            f"{uniform[0]['finetuned']:.2f}",
            aims["finetuned"],
        ),
        (
            "an episode, against a plain reading of the reference procedure",
            f"{found['reference']['times_shorter']} times shorter",
            "",
            aims["episode"],
        ),
    ]
    return markdown(("measure", "learned (DDPG)", "uniform", "aim of the project"), rows)


def _seeds(runs: list[Mapping[str, Any]], name: str) -> str:
    """Describes the first run's figure, and those of the other seeds."""
    others = [run for run in runs[1:] if name in run]
    first = f"**{runs[0][name]:.2f}**"
    if not others:
        return first
    seeds = " and ".join(str(run["seed"]) for run in others)
    return f"{first} (seed{'s' if len(others) > 1 else ''} {seeds}: {', '.join(f'{run[name]:.2f}' for run in others)})"


if __name__ == "__main__":
    main()
