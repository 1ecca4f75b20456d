"""Agents x budgets x episodes x seeds on one network, all by the same rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import msgspec

from agents import check_plan
from amc.cluster import Executor, OpenExecutor, Watch, in_process
from amc.errors import RunFolderError
from amc.pipeline.criterion_check import check_ranking
from amc.pipeline.recorder import Recorder
from amc.pipeline.search import check_fits, check_search
from amc.pipeline.task import Task
from amc.storage.names import AGENTS, STUDY
from amc.storage.policy import AllocationRecord
from amc.structure import Allocation
from amc.study.cell_player import CellPlayer, Played, StudyRules, Tuning
from amc.study.cells import Cell, check_cells
from amc.utils.digests import digest_of, digest_of_text
from amc.utils.durable_files import replacing
from amc.utils.json_lines import Lines, read_lines
from amc.utils.options import file_stem
from amc.utils.plain_json import as_type

_LONGEST_NAME = 100
"""Letters of an agent in the name of its file: file systems take 255 bytes in all."""
IDENTITY = ("agent", "budget", "episodes", "seed")


_Figure = Annotated[float, msgspec.Meta(ge=-1e12, le=1e12)]
"""A figure that can be averaged and drawn."""
_Cost = Annotated[float, msgspec.Meta(ge=0, le=1e30)]
"""A cost that can be averaged."""


class StudyRecord(msgspec.Struct):
    """The fields of a study's line that are read back."""

    agent: str
    budget: float
    episodes: int
    seed: int
    metric: str
    reward: _Figure
    pruned: _Figure
    finetuned: _Figure | None
    allocation: AllocationRecord
    digest: str = ""
    costs: dict[str, _Cost] = {}
    dense_costs: dict[str, _Cost] = {}
    dense: _Figure | None = None
    dense_top5: _Figure | None = None
    pruned_top5: _Figure | None = None
    finetuned_top5: _Figure | None = None
    latency_ms: dict[str, _Figure] | None = None
    prune_seconds: _Figure | None = None


def read_cells(file: Path) -> list[dict[str, Any]]:
    """Returns the cells of a study, from its `study.jsonl`.

    Raises:
        RunFolderError: If the file is missing or damaged.
    """
    try:
        records = read_lines(file).records
        for record in records:
            as_type(record, StudyRecord)
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{file} must hold the cells of a study: {error}; repair it, or leave it out") from error
    return records


class AgentsStudy:
    """Plays cells on one network, and is the only one that writes into the folder.

    The cells are played by a `CellPlayer` in this process, or by a replica of it on each worker of a cluster: lines and
    files are the same, whatever the number of workers and the order in which they finish.
    """

    def __init__(
        self,
        task: Task,
        folder: Path,
        rules: StudyRules,
        recorder: Recorder | None = None,
        open_executor: OpenExecutor | None = None,
    ) -> None:
        """Opens the study.

        Args:
            task: The trained network and its data, without a budget.
            folder: Where the lines and the trained agents are kept.
            rules: What is the same for every cell.
            recorder: Shows the progress within a cell.
            open_executor: Where the cells are played; None for this process.
        """
        self._recorder = recorder or Recorder()
        self._task, self._folder, self._rules = task, folder, rules
        self._open_executor = open_executor or in_process
        self.lines = Lines(folder / STUDY, IDENTITY, StudyRecord)

    def check(self, cells: Sequence[Cell]) -> None:
        """Raises any error about a budget or an option before the first cell takes time."""
        check_cells(cells, self._rules.metric)
        for cell in cells:
            problem, agent = self._rules.problem(self._task, cell.budget), cell.variant.create()
            check_plan(agent, cell.episodes, problem)
            check_ranking(agent, self._task, problem)
            check_fits(problem, self._rules.search_of(cell), agent)
            self._check_source(cell)
        for budget in dict.fromkeys(cell.budget for cell in cells):
            check_search(self._rules.problem(self._task, budget), replace(self._rules.search, agent="uniform"))

    def _check_source(self, cell: Cell) -> None:
        """Rejects a trained agent other than the one that the cell was played with."""
        known, digest = self.lines.find(cell.key) or {}, _source(cell).get("digest")
        if known.get("digest", digest) != digest:
            raise RunFolderError(
                f"{cell.variant.file} must be what the cells of {self._folder} have started from, but has changed "
                "since; put the old file back, or give another --out"
            )

    def play(
        self,
        cells: Sequence[Cell],
        on_cell: Callable[[dict[str, Any]], None],
        watch: Watch | None = None,
    ) -> None:
        """Plays the cells that have no line yet, and fine-tunes and times those that still need it.

        Times are measured in this process and last, when no worker is at work any more.

        Args:
            cells: The cells.
            on_cell: Called with the record of every cell once it is played, the old ones first.
            watch: Called now and then with the cells that are under way elsewhere, each counted by the share of it that
                is done.
        """
        left = [cell for cell in cells if not self._is_played(cell)]
        untimed = [cell for cell in cells if not self._is_timed(cell)]
        for cell in cells:
            if cell not in left:
                on_cell(self._known(cell))
        if left or untimed:
            player = CellPlayer(self._task, self._rules, self._recorder, self.lines.records)
            if left:
                with closing(self._open_executor(player, self._recorder)) as executor:
                    self._play(left, executor, on_cell, watch)
            if untimed:
                self._time_all(untimed, player)
        self.lines.arrange([cell.key for cell in cells])

    def _time_all(self, cells: Sequence[Cell], player: CellPlayer) -> None:
        """Times the networks of cells that were played."""
        with self._recorder.stage("time the networks", len(cells), "networks") as advance:
            for done, cell in enumerate(cells, start=1):
                self._time(self._known(cell), player)
                advance(done / len(cells))

    def _time(self, known: dict[str, Any], player: CellPlayer) -> None:
        """Adds the times of a network to its record, those of the same network in another cell if there are."""
        widths = known["allocation"]["widths"]
        same = (found for found in self.lines.records if found["allocation"]["widths"] == widths)
        times = next((found["latency_ms"] for found in same if found.get("latency_ms") is not None), None)
        if times is None:
            times = player.latency(Allocation.from_dict(known["allocation"]), self._recorder)
        self.lines.replace(known, {**known, "latency_ms": dict(times)})

    def _play(
        self,
        cells: Sequence[Cell],
        executor: Executor,
        on_cell: Callable[[dict[str, Any]], None],
        watch: Watch | None,
    ) -> None:
        """Takes results as they come; each is written at once."""
        under_way = {}
        portable = {cell.variant: cell.variant.portable() for cell in cells}
        for cell in cells:
            known = self.lines.find(cell.key)
            job = replace(cell, variant=portable[cell.variant]) if known is None else _tuning(known)
            under_way[executor.submit(job)] = cell
        for number, result in executor.results(watch):
            cell = under_way.pop(number)
            if isinstance(result, Played):
                known = self.lines.add(self._record(cell, result))
            else:
                known = self._known(cell)
                known = self.lines.replace(known, {**known, **result})
            if not self._is_played(cell):
                under_way[executor.submit(_tuning(known), first=True)] = cell
            else:
                on_cell(known)

    def _is_timed(self, cell: Cell) -> bool:
        return not self._rules.latency or (self.lines.find(cell.key) or {}).get("latency_ms") is not None

    def _is_played(self, cell: Cell) -> bool:
        known = self.lines.find(cell.key)
        return known is not None and (known["finetuned"] is not None or cell.budget not in self._rules.finetuned)

    def _known(self, cell: Cell) -> dict[str, Any]:
        known = self.lines.find(cell.key)
        assert known is not None
        return known

    def _record(self, cell: Cell, played: Played) -> dict[str, Any]:
        """Returns the record of a cell that was played, after keeping its agent."""
        self._keep(cell, played.agent)
        return {**dict(zip(IDENTITY, cell.key, strict=True)), **played.figures, **_source(cell)}

    def _keep(self, cell: Cell, agent: bytes | None) -> None:
        """Saves a trained agent, for transfers."""
        if agent is None:
            return
        label = cell.variant.label
        name = file_stem(Path(label).name)
        if cell.variant.file is not None or len(name) > _LONGEST_NAME:  # files of one name may lie in several folders
            name = f"{name[:_LONGEST_NAME]}-{digest_of_text(label)[:8]}"
        folder = self._folder / AGENTS
        folder.mkdir(exist_ok=True)
        file = f"{name}-{self._rules.metric}{cell.budget:.15g}-{cell.episodes}-seed{cell.seed}.safetensors"
        with replacing(folder / file) as partial:
            partial.write_bytes(agent)


def _tuning(record: dict[str, Any]) -> Tuning:
    return Tuning(Allocation.from_dict(record["allocation"]))


def _source(cell: Cell) -> dict[str, str]:
    """Returns the digest of the trained agent that a cell starts from, as an entry of its record; empty for none."""
    return {} if cell.variant.file is None else {"digest": digest_of(Path(cell.variant.file))}
