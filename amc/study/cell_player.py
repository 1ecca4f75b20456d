"""Plays the cells of a study on one replica of network, tables and images, and writes nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from agents import Agent
from amc.errors import ConfigurationError
from amc.pipeline.data_fingerprint import fingerprint
from amc.pipeline.deliver import Workshop
from amc.pipeline.measuring import measure_on_test
from amc.pipeline.recorder import Recorder, ShowingRecorder
from amc.pipeline.search import SearchConfig, search_policy
from amc.pipeline.speed import compare_latency
from amc.pipeline.task import Task, problem_at
from amc.problem import PruningProblem
from amc.problem.evaluator import Evaluator, EvaluatorProxy
from amc.problem.score import Score
from amc.runtime import resolve_device
from amc.runtime.clock import clock_for
from amc.runtime.freed_memory import give_back_freed_memory
from amc.structure import Allocation
from amc.study.cells import Cell
from amc.utils.progress import Shows

_Widths: TypeAlias = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class StudyRules:
    """What is the same for every cell.

    Attributes:
        metric: What the budgets bound, such as `"flops"`.
        search: Reward, mode and first images of every search. It names no cluster: cells are spread, not candidates, by
            the `open_executor` of `AgentsStudy`.
        finetuned: Budgets at which the chosen networks are fine-tuned too, as the task says.
        latency: Whether the chosen networks are timed too, each in turn with the dense one.

    Raises:
        ConfigurationError: If the search names a cluster.
    """

    metric: str = "flops"
    search: SearchConfig = field(default_factory=SearchConfig)
    finetuned: Sequence[float] = ()
    latency: bool = False

    def __post_init__(self) -> None:
        """Checks the search."""
        if self.search.cluster is not None:
            raise ConfigurationError(
                f"cluster of a study's search must be None, not {self.search.cluster!r}: a study spreads its cells, so "
                "give what amc.pipeline.spreading.spread_over yields to AgentsStudy as open_executor"
            )

    def problem(self, task: Task, budget: float) -> PruningProblem:
        """Returns the problem of a task at a budget."""
        return problem_at(task, self.metric, budget)

    def search_of(self, cell: Cell) -> SearchConfig:
        """Returns the search of a cell; the agent itself is given, as one that has learnt elsewhere has no name."""
        features = cell.variant.features
        search = self.search if features is None else replace(self.search, features=features)
        return replace(search, agent="uniform", episodes=cell.episodes, seed=cell.seed)


@dataclass(frozen=True)
class Tuning:
    """The job of fine-tuning the network that a cell has chosen."""

    allocation: Allocation


@dataclass(frozen=True)
class Played:
    """What a search has found.

    Attributes:
        figures: The fields of the cell's record, without its identity.
        agent: The file of the trained agent; None for agents that learn nothing.
    """

    figures: dict[str, Any]
    agent: bytes | None


class CellPlayer:
    """Plays cells, and fine-tunes what they have chosen.

    An allocation that it has scored on the whole search split is not run again, and neither is a network that was
    measured on the test split. That saves time and changes no figure: each is a function of the allocation.
    """

    def __init__(self, task: Task, rules: StudyRules, recorder: Recorder, known: Iterable[Mapping[str, Any]]) -> None:
        """Gathers statistics and tables, and measures the dense network.

        Args:
            task: The trained network and its data, without a budget.
            rules: What is the same for every cell.
            recorder: Shows the progress.
            known: The records of cells that were played already.
        """
        self._clock = clock_for(resolve_device(task.device))
        start = self._clock()
        self._task, self._rules = task, rules
        self._workshop = Workshop(task, recorder)
        self._tables_seconds = self._clock() - start
        records = list(known)
        dense = next((record for record in records if record.get("dense") is not None), None)
        if dense is None:
            tested = measure_on_test(task, recorder, "the dense network", task.model)[0]
            dense = {"dense": tested.figure, "dense_top5": tested.top5}
        self._dense = {name: dense.get(name) for name in ("dense", "dense_top5")}
        self._scores: dict[tuple[int, ...], Score] = {}
        self._measured: dict[_Widths, dict[str, Any]] = {}
        for record in reversed(records):  # of equal allocations the first counts
            self._measured.setdefault(_key(record["allocation"]["widths"]), {}).update(_accuracies(record))

    def work(self, job: Cell | Tuning, shown: Shows) -> Any:
        """Plays a cell, which gives a `Played`, or fine-tunes an allocation, which gives its accuracies."""
        recorder = ShowingRecorder(shown)
        found = self._tuned(job.allocation, recorder) if isinstance(job, Tuning) else self._play(job, recorder)
        give_back_freed_memory()
        return found

    def fingerprint(self) -> str:
        """Returns a digest of the data; see `Replica`."""
        return "" if self._task.data is None else fingerprint(self._task.data)

    def _play(self, cell: Cell, recorder: Recorder) -> Played:
        problem, agent = self._rules.problem(self._task, cell.budget), cell.variant.create()
        evaluator = _Remembering(self._workshop.evaluator, self._scores)
        outcome = search_policy(problem, evaluator, self._rules.search_of(cell), recorder, agent=agent)
        figures = {
            "metric": self._rules.metric,
            "played": len(outcome.episodes),
            "seconds": sum(episode.seconds for episode in outcome.episodes),
            "reward": outcome.best.reward,
            "search_accuracy": outcome.best.score.accuracy,
            "costs": dict(outcome.best.costs),
            "dense_costs": dict(problem.dense_costs),
            **self._dense,
            "allocation": outcome.best.allocation.as_dict(),
            **self._pruned(outcome.best.allocation, recorder),
        }
        return Played(figures, _file_of(agent))

    def _pruned(self, allocation: Allocation, recorder: Recorder) -> dict[str, Any]:
        """Measures the network of an allocation on the test split."""
        known = self._measured.setdefault(_key(allocation.widths), {})
        if "pruned" not in known:
            family, start = self._workshop.family, self._clock()
            is_new = allocation not in family.networks
            pruned = family.prune(allocation)
            seconds = self._tables_seconds + self._clock() - start
            (tested,) = measure_on_test(self._task, recorder, "the pruned network", pruned)
            known |= {"pruned": tested.figure, "pruned_top5": tested.top5}
            if is_new:  # else the comparison of the best has pruned it before
                known["prune_seconds"] = round(seconds, 1)
        seconds_known = {name: known[name] for name in ("prune_seconds",) if name in known}
        figures = {"pruned": known["pruned"], "pruned_top5": known.get("pruned_top5"), **seconds_known}
        return {**figures, "finetuned": None, "finetuned_top5": None}

    def _tuned(self, allocation: Allocation, recorder: Recorder) -> dict[str, Any]:
        """Measures the network of an allocation on the test split, before and after fine-tuning."""
        known = self._measured.setdefault(_key(allocation.widths), {})
        if known.get("finetuned") is None:
            delivered = self._workshop.deliver("study", allocation, recorder)
            before, after = delivered.pruned_by_class, delivered.by_class
            known |= {
                "pruned": delivered.pruned,
                "pruned_top5": None if before is None else before.top5,
                "finetuned": delivered.finetuned,
                "finetuned_top5": None if after is None else after.top5,
            }
        return dict(known)

    def latency(self, allocation: Allocation, recorder: Recorder) -> dict[str, float]:
        """Times the network of an allocation in turn with the dense one; milliseconds, and the ratio of both."""
        with recorder.stage("latency, dense and pruned") as advance:
            found = compare_latency(self._task, self._workshop.family.prune(allocation).eval(), advance)
        return {name: found[name] for name in ("dense", "pruned", "ratio")}


class _Remembering(EvaluatorProxy):
    """Scores each allocation on the whole search split only once in a study."""

    def __init__(self, evaluator: Evaluator, scores: dict[tuple[int, ...], Score]) -> None:
        super().__init__(evaluator)
        self._scores = scores

    def expect(self, allocations: Sequence[Allocation]) -> None:
        self.inner.expect([allocation for allocation in allocations if allocation.key() not in self._scores])

    def score(self, allocation: Allocation) -> Score:
        key = allocation.key()
        if key not in self._scores:
            self._scores[key] = self.inner.score(allocation)
        return self._scores[key]


def _key(widths: Mapping[str, int]) -> _Widths:
    return tuple(sorted(widths.items()))


def _accuracies(record: Mapping[str, Any]) -> dict[str, Any]:
    names = ("pruned", "pruned_top5", "prune_seconds", "finetuned", "finetuned_top5")
    return {name: record[name] for name in names if record.get(name) is not None}


def _file_of(agent: Agent) -> bytes | None:
    """Returns the file of a trained agent, for transfers; None for an agent that has learnt nothing."""
    if getattr(agent, "trained", None) is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "agent.safetensors"
        agent.save(file)  # type: ignore[attr-defined]
        return file.read_bytes()
