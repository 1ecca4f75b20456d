"""Shows the progress of a run, a study or a training of a policy in another terminal."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
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
from amc.report.tables import FILE_WIDTH
from amc.report.without_figures import is_ended_search
from amc.storage.folder_kinds import kind_of
from amc.storage.names import CONFIG, EPISODES, LOCK, PROBLEMS, PROGRESS, REWARDS, RUN, STUDY, SUMMARY, TRAINING
from amc.utils.counted import counted
from amc.utils.folder_lock import Holder
from amc.utils.json_lines import read_lines
from amc.utils.plain_json import as_type, read_json
from amc.utils.plain_yaml import read_yaml
from amc.utils.printable import printable


@dataclass(frozen=True)
class _Kind:
    """What a folder may hold.

    Attributes:
        file: Where its records are.
        command: The command that writes it, where the folder does not say.
        unit: What a record is; and in the plural.
        columns: What is shown of the last records, apart from reward and seconds.
        names: How many of the first columns tell records apart.
    """

    file: str
    command: str
    unit: tuple[str, str]
    columns: tuple[str, ...]
    names: int = 0


_A_RUN = _Kind(EPISODES, "run", ("candidate", "candidates"), ("episode", "accuracy"), 1)
_A_STUDY = _Kind(STUDY, "study", ("search", "searches"), ("agent", "budget", "seed"), 3)
_OF_REWARDS = _Kind(REWARDS, "study", ("allocation", "allocations"), ())
_A_TRAINING = _Kind(TRAINING, "train", ("episode", "episodes"), ("episode", "task", "accuracy"), 2)
_IN_TRAINING = "held_out_budgets"
"""An option that only the training of a policy has."""

_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 60
_LAST = 5
_FORMS = {"accuracy": "#.4g", "reward": ".4f", "seconds": ".2f"}


@dataclass(frozen=True)
class Standing:
    """The progress of a run, a study or a training.

    Attributes:
        folder: Its folder.
        command: The command that made it.
        holder: The process that is working in it, such as `"process 7 on host"`; empty if there is none.
        wanted: Total number of candidates, or cells; None if unknown.
        records: The candidates, or cells, so far.
        finished: Names of networks that are ready, apart from the run's own.
        has_ended: Whether there are results.
        kind: What the folder holds.
        stages: What the process is doing, the innermost stage last.
        is_suspended: Whether the process is halted, as by Ctrl-Z.
    """

    folder: Path
    command: str
    holder: str
    wanted: int | None
    records: Sequence[dict[str, Any]]
    finished: tuple[str, ...] = ()
    has_ended: bool = False
    kind: _Kind = _A_RUN
    stages: tuple[str, ...] = ()
    is_suspended: bool = False


def read_standing(folder: Path) -> Standing:
    """Reads the progress of a run, a study or a training, without changing anything.

    Raises:
        RunFolderError: If the folder holds none.
    """
    if (folder / PROBLEMS).is_file():
        return _standing_of_problems(folder)
    if not _is_ours(folder):
        remedy = "give the folder that --out named, once the command has made it"
        raise RunFolderError(f"{folder} must hold a run, a study or a training; {remedy}")
    origin, (holder, stages, is_suspended) = Origin.read(folder), _holder(folder)
    read = _quietly(lambda: read_yaml(folder / CONFIG), {})
    options = read if isinstance(read, dict) else {}
    kind = _kind_of(folder, options)
    file = folder / kind.file
    try:
        records = read_lines(file).records
    except OSError as error:
        raise RunFolderError(f"{file} must be readable: {error}") from error
    done = _quietly(lambda: as_type(read_json(folder / PROGRESS), dict[str, Any]), {})
    baseline, wanted = "baseline ", None if kind in (_A_STUDY, _OF_REWARDS) else options.get("episodes")
    wanted = wanted if isinstance(wanted, int) else None
    # A search with a policy may be extended, which is then at work; so may a training.
    rests = is_ended_search(folder, origin) or (kind is _A_TRAINING and len(records) == wanted)
    return Standing(
        folder=folder,
        command=origin.command if origin else kind.command,
        holder=holder,
        wanted=wanted,
        records=records,
        finished=tuple(printable(name.removeprefix(baseline)) for name in done if name.startswith(baseline)),
        has_ended=(folder / SUMMARY).is_file() or (rests and not holder),
        kind=kind,
        stages=stages,
        is_suspended=is_suspended,
    )


def _is_ours(folder: Path) -> bool:
    """Returns whether a command has begun in a folder: many programs have a `config.yaml`, none our lock beside it."""
    if (folder / STUDY).is_file():
        return True
    return (folder / CONFIG).is_file() and ((folder / LOCK).is_file() or kind_of(folder) is not None)


def _kind_of(folder: Path, options: Mapping[str, Any]) -> _Kind:
    """Returns what a folder holds; a study or a training may have played nothing yet."""
    found = (kind for kind in (_A_STUDY, _OF_REWARDS, _A_TRAINING) if (folder / kind.file).is_file())
    if (kind := next(found, None)) is not None:
        return kind
    if any((folder / name).is_file() for name in (RUN, EPISODES)):
        return _A_RUN
    return _A_TRAINING if _IN_TRAINING in options else _A_STUDY


def shown(standing: Standing, width: int = _WIDTH) -> RenderableType:
    """Formats the state of a run, for a terminal of `width` columns."""
    where, kind = printable(str(standing.folder)), standing.kind
    lines = [Text(f"amc {standing.command} in {where} {_state(standing)}; {_how_many(standing)}")]
    lines += [Text(f"now: {stage}") for stage in standing.stages if not standing.has_ended]
    scored = [record for record in standing.records if _is_number(record.get("reward"))]
    rewards = [float(record["reward"]) for record in scored]
    if rewards and kind is not _A_TRAINING:  # rewards of several tasks are not those of one search
        best = max(range(len(rewards)), key=rewards.__getitem__)
        lines.append(Text(f"best reward {rewards[best]:.4f} ({_name_of(kind, scored[best])}); all:"))
        lines.append(Text(sparkline(rewards, max(1, min(width, _WIDTH))), no_wrap=True))
    if standing.finished:
        lines.append(Text(f"also ready: {', '.join(standing.finished)}"))
    tables = [_last(standing)] if standing.records and kind.columns else []
    if kind is _A_TRAINING and standing.records:
        tables = [_tasks(standing.records), *tables]
    if kind is _A_STUDY:
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
    width = None if sys.stdout.isatty() else FILE_WIDTH
    console = console or Console(highlight=False, markup=False, width=width)
    standing = read_standing(folder)
    if once or not console.is_terminal:
        console.print(shown(standing, console.width), soft_wrap=not console.is_terminal)  # a file takes whole lines
        return
    with Live(shown(standing, console.width), console=console, auto_refresh=False) as live:
        while standing.holder and not standing.has_ended:
            sleep(seconds)
            standing = _read_again(folder)
            live.update(shown(standing, console.width), refresh=True)


def _read_again(folder: Path) -> Standing:
    """Reads the progress once more.

    Raises:
        RunFolderError: If the folder is gone, or cannot be read.
    """
    try:
        return read_standing(folder)
    except RunFolderError as error:
        if _is_ours(folder) or (folder / PROBLEMS).is_file():
            raise
        raise RunFolderError(f"{folder} was deleted, moved or emptied while it was watched") from error


def _standing_of_problems(folder: Path) -> Standing:
    """Reads the progress of a study of several problems."""
    records = []
    for file in sorted(folder.glob(f"*/{STUDY}")):
        try:
            records += [{**record, "problem": file.parent.name} for record in read_lines(file).records]
        except OSError as error:
            raise RunFolderError(f"{file} must be readable: {error}") from error
    holder, stages, is_suspended = _holder(folder)
    return Standing(folder, "study", holder, None, records, kind=_A_STUDY, stages=stages, is_suspended=is_suspended)


def _state(standing: Standing) -> str:
    """Says whether anything happens."""
    if standing.has_ended:
        return "has ended"
    if not standing.holder:
        return "is not running"
    return f"{'is suspended, as by Ctrl-Z' if standing.is_suspended else 'works'}: {standing.holder}"


def _how_many(standing: Standing) -> str:
    """Counts the records, of how many where that is known; a search that starts from an agent tries one more."""
    done, wanted = len(standing.records), standing.wanted
    if wanted is None:
        return counted(done, *standing.kind.unit)
    return f"{done} of {counted(max(done, wanted), *standing.kind.unit)}"


def _name_of(kind: _Kind, record: Mapping[str, Any]) -> str:
    """Names a record as the table of the last ones does: episodes are numbered from 0, as in the files and figures."""
    columns = ("problem", *kind.columns[: kind.names])
    named = [f"{name} {_cell(name, record[name])}" for name in columns if name in record]
    return ", ".join(named) + ("; the first is 0" if kind is _A_RUN else "")


def _cell(name: str, value: object) -> str:
    """Formats a value of a record; the digits of a column stand below one another."""
    return format(value, _FORMS.get(name, ".4g")) if isinstance(value, float) else printable(str(value))


def _last(standing: Standing) -> Table:
    """Shows the last candidates."""
    table = Table(box=None, pad_edge=False)
    names = standing.kind.columns
    for name in (*names, "reward", "seconds"):
        table.add_column(name, justify="left" if name in ("agent", "task") else "right")
    for record in standing.records[-_LAST:]:
        table.add_row(*(Text(_cell(name, record.get(name))) for name in (*names, "reward", "seconds")))
    return table


def _tasks(records: Sequence[dict[str, Any]]) -> Table:
    """Shows how many episodes of a training each task has had, and its best reward."""
    table = Table(box=None, pad_edge=False)
    table.add_column("task")
    for name in ("episodes", "best reward"):
        table.add_column(name, justify="right")
    for task in dict.fromkeys(str(record.get("task")) for record in records):
        own = [record for record in records if str(record.get("task")) == task]
        rewards = [float(record["reward"]) for record in own if _is_number(record.get("reward"))]
        table.add_row(*map(Text, (printable(task), str(len(own)), f"{max(rewards):.4f}" if rewards else "-")))
    return table


def _holder(folder: Path) -> tuple[str, tuple[str, ...], bool]:
    """Returns the process in a folder, from its lock file, its stages, and whether it is halted; empty for none."""
    holder = Holder.read(folder / f"{LOCK}.json")
    if holder is None or holder.has_died():
        return "", (), False
    return printable(str(holder)), tuple(map(printable, holder.stages)), holder.is_suspended()


def _quietly(read: Callable[[], Any], otherwise: Any) -> Any:
    """Returns what is read, or a default if it cannot be: the run may be writing it."""
    try:
        return read()
    except (OSError, ValueError):
        return otherwise


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)
