"""Agents x budgets x episodes x seeds on one network, all by the same rules."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import msgspec

from agents import Agent, check_plan
from amc.costs import Budget
from amc.errors import RunFolderError
from amc.pipeline.by_class import Tested
from amc.pipeline.deliver import Workshop
from amc.pipeline.measuring import measure_on_test
from amc.pipeline.recorder import Recorder
from amc.pipeline.search import SearchConfig, check_fits, check_search, search_policy
from amc.pipeline.speed import compare_latency
from amc.pipeline.task import Task, build_problem
from amc.problem import PruningProblem
from amc.problem.evaluator import Evaluator, EvaluatorProxy
from amc.problem.score import Score
from amc.report.origin import digest_of
from amc.storage.names import AGENTS, STUDY
from amc.storage.policy import AllocationRecord
from amc.structure import Allocation
from amc.study.cells import Cell
from amc.utils.conversion import check_seed
from amc.utils.json_lines import Lines
from amc.utils.options import file_stem

_LONGEST_NAME = 100
"""Letters of an agent in the name of its file: file systems take 255 bytes in all."""
IDENTITY = ("agent", "budget", "episodes", "seed")


_Figure = Annotated[float, msgspec.Meta(ge=-1e12, le=1e12)]
"""A figure that can be averaged and drawn."""


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
    costs: dict[str, float] = {}
    dense_costs: dict[str, float] = {}
    dense: _Figure | None = None
    dense_top5: _Figure | None = None
    pruned_top5: _Figure | None = None
    finetuned_top5: _Figure | None = None
    latency_ms: dict[str, _Figure] | None = None
    prune_seconds: _Figure | None = None


@dataclass(frozen=True)
class StudyRules:
    """What is the same for every cell.

    Attributes:
        metric: What the budgets bound, such as `"flops"`.
        search: Reward, mode and first images of every search.
        finetuned: Budgets at which the chosen networks are fine-tuned too, as the task says.
        latency: Whether the chosen networks are timed too, each in turn with the dense one.
    """

    metric: str = "flops"
    search: SearchConfig = field(default_factory=SearchConfig)
    finetuned: Sequence[float] = ()
    latency: bool = False


class AgentsStudy:
    """Plays cells on one network.

    The statistics, tables and scores are shared: an allocation that any cell has scored on the whole search split is
    not run again, and neither is a network that was measured on the test split.
    """

    def __init__(self, task: Task, folder: Path, rules: StudyRules, recorder: Recorder | None = None) -> None:
        """Opens the study.

        Args:
            task: The trained network and its data, without a budget.
            folder: Where the lines and the trained agents are kept.
            rules: What is the same for every cell.
            recorder: Shows the progress within a cell.
        """
        self._recorder = recorder or Recorder()
        self._task, self._folder, self._rules = task, folder, rules
        self._workshop: Workshop | None = None
        self._tables_seconds = 0.0
        self._scores: dict[tuple[int, ...], Score] = {}
        self.lines = Lines(folder / STUDY, IDENTITY, StudyRecord)

    def check(self, cells: Sequence[Cell]) -> None:
        """Raises any error about a budget or an option before the first cell takes time."""
        for cell in cells:
            check_seed(cell.seed)
            problem, agent = self._problem(cell.budget), cell.variant.create()
            check_plan(agent, cell.episodes, problem)
            check_fits(problem, self._search(cell), agent)
            self._check_source(cell)
        for budget in dict.fromkeys(cell.budget for cell in cells):
            check_search(self._problem(budget), replace(self._rules.search, agent="uniform"))

    def _check_source(self, cell: Cell) -> None:
        """Rejects a trained agent other than the one that the cell was played with."""
        known, digest = self.lines.find(cell.key) or {}, _source(cell).get("digest")
        if known.get("digest", digest) != digest:
            raise RunFolderError(
                f"{cell.variant.file} must be what the cells of {self._folder} have started from, but has changed "
                "since; put the old file back, or give another --out"
            )

    def play(self, cells: Sequence[Cell], on_cell: Callable[[dict[str, Any]], None]) -> None:
        """Plays the cells that have no line yet, and fine-tunes and times those that still need it.

        Args:
            cells: The cells.
            on_cell: Called with every record, including old ones.
        """
        for cell in cells:
            known = self.lines.find(cell.key) or self.lines.add(self._play(cell))
            if known["finetuned"] is None and self._finetunes(cell):
                tuned = {**known, **self._accuracies(Allocation.from_dict(known["allocation"]), finetune=True)}
                known = self.lines.replace(known, tuned)
            if self._rules.latency and known.get("latency_ms") is None:
                allocation = Allocation.from_dict(known["allocation"])
                known = self.lines.replace(known, {**known, "latency_ms": self._latency(allocation)})
            on_cell(known)

    def _finetunes(self, cell: Cell) -> bool:
        return cell.budget in self._rules.finetuned

    def _play(self, cell: Cell) -> dict[str, Any]:
        problem, agent = self._problem(cell.budget), cell.variant.create()
        evaluator = _Remembering(self._shop.evaluator, self._scores)
        outcome = search_policy(problem, evaluator, self._search(cell), self._recorder, agent=agent)
        self._keep(cell, agent)
        return {
            **dict(zip(IDENTITY, cell.key, strict=True)),
            "metric": self._rules.metric,
            "played": len(outcome.episodes),
            "seconds": sum(episode.seconds for episode in outcome.episodes),
            "reward": outcome.best.reward,
            "search_accuracy": outcome.best.score.accuracy,
            "costs": dict(outcome.best.costs),
            "dense_costs": dict(problem.dense_costs),
            "dense": self._dense.figure,
            "dense_top5": self._dense.top5,
            "allocation": outcome.best.allocation.as_dict(),
            **self._accuracies(outcome.best.allocation, finetune=False),
            **_source(cell),
        }

    def _search(self, cell: Cell) -> SearchConfig:
        """Returns the search of a cell; the agent itself is given, as one that has learnt elsewhere has no name."""
        features = cell.variant.features
        search = self._rules.search if features is None else replace(self._rules.search, features=features)
        return replace(search, agent="uniform", episodes=cell.episodes, seed=cell.seed)

    def _accuracies(self, allocation: Allocation, *, finetune: bool) -> dict[str, Any]:
        """Measures the network of an allocation on the test split, also after fine-tuning if asked to."""
        known = self._measured(allocation, finetune)
        if known is not None:
            return known
        if not finetune:
            family, start = self._shop.family, time.perf_counter()
            pruned = family.prune(allocation)
            seconds = self._tables_seconds + time.perf_counter() - start
            (tested,) = measure_on_test(self._task, self._recorder, "the pruned network", pruned)
            figures = {"pruned": tested.figure, "pruned_top5": tested.top5, "prune_seconds": round(seconds, 1)}
            return {**figures, "finetuned": None, "finetuned_top5": None}
        delivered = self._shop.deliver("study", allocation, self._recorder)
        before, after = delivered.pruned_by_class, delivered.by_class
        return {
            "pruned": delivered.pruned,
            "pruned_top5": None if before is None else before.top5,
            "finetuned": delivered.finetuned,
            "finetuned_top5": None if after is None else after.top5,
        }

    def _latency(self, allocation: Allocation) -> dict[str, float]:
        """Times the network of an allocation in turn with the dense one; milliseconds, and the ratio of both."""
        for record in self.lines.records:
            if record.get("latency_ms") is not None and record["allocation"]["widths"] == dict(allocation.widths):
                return dict(record["latency_ms"])
        with self._recorder.stage("latency, dense and pruned") as advance:
            found = compare_latency(self._task, self._shop.family.prune(allocation).eval(), advance)
        return {name: found[name] for name in ("dense", "pruned", "ratio")}

    def _measured(self, allocation: Allocation, finetune: bool) -> dict[str, Any] | None:
        """Returns the test accuracies of the same allocation in an earlier cell."""
        for record in self.lines.records:
            if record["allocation"]["widths"] == dict(allocation.widths) and (
                record["finetuned"] is not None or not finetune
            ):
                names = ("pruned", "pruned_top5", "prune_seconds", "latency_ms")
                known: dict[str, Any] = {name: record[name] for name in names if name in record}
                tuned = {name: record.get(name) if finetune else None for name in ("finetuned", "finetuned_top5")}
                return {**known, **tuned}
        return None

    def _problem(self, budget: float) -> PruningProblem:
        metric = {self._rules.metric: budget}
        return build_problem(self._task.structure, Budget.of(metric), self._task.pruning)

    def _keep(self, cell: Cell, agent: Agent) -> None:
        """Saves a trained agent, for transfers."""
        if getattr(agent, "trained", None) is None:
            return
        label = cell.variant.label
        name = file_stem(Path(label).name)
        if cell.variant.file is not None or len(name) > _LONGEST_NAME:  # files of one name may lie in several folders
            name = f"{name[:_LONGEST_NAME]}-{hashlib.sha256(label.encode()).hexdigest()[:8]}"
        folder = self._folder / AGENTS
        folder.mkdir(exist_ok=True)
        file = f"{name}-{self._rules.metric}{cell.budget:.15g}-{cell.episodes}-seed{cell.seed}.safetensors"
        agent.save(folder / file)  # type: ignore[attr-defined]

    @cached_property
    def _dense(self) -> Tested:
        """The test of the dense network."""
        return measure_on_test(self._task, self._recorder, "the dense network", self._task.model)[0]

    @property
    def _shop(self) -> Workshop:
        """Scores and prunes; made when a cell needs it."""
        if self._workshop is None:
            start = time.perf_counter()
            self._workshop = Workshop(self._task, self._recorder)
            self._tables_seconds = time.perf_counter() - start
        return self._workshop


class _Remembering(EvaluatorProxy):
    """Scores each allocation on the whole search split only once in a study."""

    def __init__(self, evaluator: Evaluator, scores: dict[tuple[int, ...], Score]) -> None:
        super().__init__(evaluator)
        self._scores = scores

    def score(self, allocation: Allocation) -> Score:
        key = allocation.key()
        if key not in self._scores:
            self._scores[key] = self.inner.score(allocation)
        return self._scores[key]


def _source(cell: Cell) -> dict[str, str]:
    """Returns the digest of the trained agent that a cell starts from, as an entry of its record; empty for none."""
    return {} if cell.variant.file is None else {"digest": digest_of(Path(cell.variant.file))}
