"""Shows the progress of a run or a study in another terminal."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from amc.errors import RunFolderError
from amc.report.origin import Origin
from amc.report.study_standing import standing_table
from amc.report.without_figures import is_ended_search
from amc.storage.names import CONFIG, EPISODES, LOCK, PROBLEMS, PROGRESS, RUN, STUDY, SUMMARY
from amc.utils.json_lines import read_lines
from amc.utils.plain_json import as_type, read_json
from amc.utils.plain_yaml import read_yaml
from amc.utils.printable import printable

_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 60
_LAST = 5


@dataclass(frozen=True)
class Standing:
    """The progress of a run or a study.

    Attributes:
        folder: Its folder.
        command: The command that made it.
        holder: The process that is working in it, such as `"process 7 on host"`; empty if there is none.
        wanted: Total number of candidates, or cells; None if unknown.
        records: The candidates, or cells, so far.
        finished: Names of networks that are ready, apart from the run's own.
        has_ended: Whether there are results.
    """

    folder: Path
    command: str
    holder: str
    wanted: int | None
    records: Sequence[dict[str, Any]]
    finished: tuple[str, ...] = ()
    has_ended: bool = False


def read_standing(folder: Path) -> Standing:
    """Reads the progress of a run or a study, without changing anything.

    Raises:
        RunFolderError: If the folder holds neither.
    """
    if (folder / PROBLEMS).is_file():
        return _standing_of_problems(folder)
    is_study = (folder / STUDY).is_file() or not any((folder / name).is_file() for name in (RUN, EPISODES))
    if not (folder / STUDY).is_file() and not (folder / CONFIG).is_file():
        raise RunFolderError(f"{folder} must hold a run or a study; give the folder that --out named")
    origin = Origin.read(folder)
    file = folder / (STUDY if is_study else EPISODES)
    try:
        records = read_lines(file).records
    except OSError as error:
        raise RunFolderError(f"{file} must be readable: {error}") from error
    done = _quietly(lambda: as_type(read_json(folder / PROGRESS), dict[str, Any]), {})
    baseline = "baseline "
    holder = _holder(folder)
    options = {} if is_study else _quietly(lambda: read_yaml(folder / CONFIG), {})
    wanted = options.get("episodes") if isinstance(options, dict) else None
    return Standing(
        folder=folder,
        command=origin.command if origin else "study" if is_study else "run",
        holder=holder,
        wanted=wanted if isinstance(wanted, int) else None,
        records=records,
        finished=tuple(printable(name.removeprefix(baseline)) for name in done if name.startswith(baseline)),
        # A search with a policy may be extended, which is then at work.
        has_ended=(folder / SUMMARY).is_file() or (is_ended_search(folder, origin) and not holder),
    )


def shown(standing: Standing) -> RenderableType:
    """Formats the state of a run, for a terminal."""
    total = "" if standing.wanted is None else f" of {standing.wanted}"
    where = printable(str(standing.folder))
    state = "has ended" if standing.has_ended else f"works: {standing.holder}" if standing.holder else "is not running"
    unit = "searches" if standing.command == "study" else "candidates"
    lines = [Text(f"amc {standing.command} in {where} {state}; {len(standing.records)}{total} {unit}")]
    rewards = [float(record["reward"]) for record in standing.records if _is_number(record.get("reward"))]
    if rewards:
        best = max(range(len(rewards)), key=rewards.__getitem__)
        lines.append(Text(f"best reward {rewards[best]:.4f} (number {best}); all: {sparkline(rewards)}"))
    if standing.finished:
        lines.append(Text(f"also ready: {', '.join(standing.finished)}"))
    tables = [_last(standing)] if standing.records else []
    if standing.command == "study":
        problems = dict.fromkeys(str(record.get("problem", "")) for record in standing.records)
        of_each = {p: [r for r in standing.records if str(r.get("problem", "")) == p] for p in problems}
        tables = [*(standing_table(records, title=problem) for problem, records in of_each.items()), *tables]
    return Group(*lines, *tables)


def sparkline(values: Sequence[float], width: int = _WIDTH) -> str:
    """Draws values as a line of bars; with more than `width` values each bar is the best of several."""
    step = max(1, -(-len(values) // width))
    best = [max(values[start : start + step]) for start in range(0, len(values), step)]
    low, span = min(best), max(best) - min(best)
    if not 0 < span < math.inf:  # all alike, or no rewards at all
        return _BARS[0] * len(best)
    return "".join(_BARS[round((value - low) / span * (len(_BARS) - 1))] for value in best)


def watch(
    folder: Path,
    *,
    console: Console | None = None,
    seconds: float = 1.0,
    once: bool = False,
    sleep: Callable[[float], object] = time.sleep,
) -> None:
    """Shows a run until it ends, or until no process works on it.

    Args:
        folder: The run's folder.
        console: Where to show it; stdout if None.
        seconds: Seconds between updates.
        once: Whether to show it only once.
        sleep: Waits; for tests.

    Raises:
        RunFolderError: If the folder holds no run.
    """
    console = console or Console(highlight=False, markup=False)
    standing = read_standing(folder)
    if once or not console.is_terminal:
        console.print(shown(standing))
        return
    with Live(shown(standing), console=console, auto_refresh=False) as live:
        while standing.holder and not standing.has_ended:
            sleep(seconds)
            standing = read_standing(folder)
            live.update(shown(standing), refresh=True)


def _standing_of_problems(folder: Path) -> Standing:
    """Reads the progress of a study of several problems."""
    records = []
    for file in sorted(folder.glob(f"*/{STUDY}")):
        try:
            records += [{**record, "problem": file.parent.name} for record in read_lines(file).records]
        except OSError as error:
            raise RunFolderError(f"{file} must be readable: {error}") from error
    return Standing(folder, "study", _holder(folder), None, records)


def _last(standing: Standing) -> Table:
    """Shows the last candidates."""
    table = Table(box=None, pad_edge=False)
    names = ("agent", "budget", "seed") if standing.command == "study" else ("episode", "accuracy")
    for name in (*names, "reward", "seconds"):
        table.add_column(name, justify="left" if name == "agent" else "right")
    for record in standing.records[-_LAST:]:
        cells = [record.get(name) for name in (*names, "reward", "seconds")]
        words = (f"{cell:.4g}" if isinstance(cell, float) else printable(str(cell)) for cell in cells)
        table.add_row(*map(Text, words))
    return table


def _holder(folder: Path) -> str:
    """Returns the process that works in a folder, from its lock file; empty if there is none."""
    record = _quietly(lambda: read_json(folder / f"{LOCK}.json"), {})
    if not isinstance(record, dict) or not {"process", "host"} <= set(record):
        return ""
    return printable(f"process {record['process']} on {record['host']}")


def _quietly(read: Callable[[], Any], otherwise: Any) -> Any:
    """Returns what is read, or a default if it cannot be: the run may be writing it."""
    try:
        return read()
    except (OSError, ValueError):
        return otherwise


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)
