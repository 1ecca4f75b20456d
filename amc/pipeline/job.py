"""A job ready to run: search, prune, fine-tune, compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from agents import AGENTS
from amc.cluster import OpenExecutor
from amc.costs import Budget
from amc.data.preprocessing import preprocessing_record
from amc.pipeline.compare import check_baselines, compare, rival
from amc.pipeline.deliver import Delivered, Workshop
from amc.pipeline.layer_records import layer_records
from amc.pipeline.measuring import measure_on_test
from amc.pipeline.prepare import check_trained, train_dense
from amc.pipeline.recorder import Recorder
from amc.pipeline.result import CompressionResult
from amc.pipeline.search import SearchConfig, check_search, search_policy
from amc.pipeline.settling import settled
from amc.pipeline.speed import compare_latency
from amc.pipeline.summary import policy_record, summarise
from amc.pipeline.task import Task
from amc.problem import PruningProblem
from amc.problem.rounding import rounding_line
from amc.runtime.call import evaluation_mode
from amc.storage.architecture import describe
from amc.storage.source import ModelSource
from amc.training import TrainConfig
from amc.utils.counted import counted
from amc.utils.options import spell


@dataclass(frozen=True)
class Job:
    """Everything that a run does, checked before it takes time.

    Attributes:
        task: The traced network, its data and its budget.
        search: How the policy is looked for.
        source: How the dense network can be built again.
        train: Settings to train the dense network with first; None if it is trained.
        compare_with: Agents that do the same job under the same rules.

    Raises:
        ConfigurationError: If the search, or that of an agent to compare with, does not fit the task.
    """

    task: Task
    search: SearchConfig
    source: ModelSource
    train: TrainConfig | None = None
    compare_with: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Checks that the searches fit the task."""
        check_search(self.task.problem, self.search, self.task)
        check_baselines(self.compare_with)
        for name in self.compare_with:
            check_search(self.task.problem, rival(self.search, name), self.task)

    def carry_out(self, recorder: Recorder, open_executor: OpenExecutor | None = None) -> CompressionResult:
        """Runs the job: everything from here on takes time and is recorded.

        Args:
            recorder: Reports it.
            open_executor: Where candidates are scored that are played side by side; None for this process alone.
        """
        task, fixed = self.task, self.search.deterministic
        with (
            evaluation_mode(task.model),
            settled(recorder, task.model, task.example_input, task.device, deterministic=fixed),
        ):
            return self._carry_out(recorder, open_executor)

    def _carry_out(self, recorder: Recorder, open_executor: OpenExecutor | None) -> CompressionResult:
        task, search = self.task, self.search
        _say_what_is_not_trained(task, recorder)
        if self.train is not None:
            train_dense(task, self.train, recorder)
        (dense,) = measure_on_test(task, recorder, "the dense network", task.model)
        check_trained(task, dense.figure, recorder, untrained=search.untrained)
        _say_how_sure(task, recorder)
        _say_widths(task, recorder)
        workshop = Workshop(task, recorder, open_executor)
        outcome = search_policy(task.problem, workshop.evaluator, search, recorder, network=self.source.reference)
        accepted = workshop.accept(str(search.agent), outcome.best.allocation, recorder)
        allocation = outcome.best.allocation if accepted is None else accepted.allocation
        recorder.on_policy(policy_record(task.problem, allocation))
        delivered = workshop.deliver(str(search.agent), allocation, recorder)
        names = [name for name in self.compare_with if spell(AGENTS, name) != search.agent]
        baselines = compare(workshop, _problem_of_baselines(task.problem, delivered), names, search, recorder)
        with recorder.stage("latency, dense and pruned") as advance:
            latency_ms = compare_latency(task, delivered.model, advance)
        return CompressionResult(
            model=delivered.model,
            allocation=delivered.allocation,
            summary=summarise(
                task,
                self.source,
                search,
                outcome,
                dense,
                delivered,
                latency_ms,
                baselines,
                layer_records(task, workshop.evaluator),
            ),
            episodes=outcome.episodes,
            baselines=baselines,
            problem=task.problem,
            preprocessing=None if task.data is None else preprocessing_record(task.data.test),
            architecture=describe(
                task.model, task.structure, delivered.kept, self.source, example_input=task.example_input
            ),
        )


_FEW = 250
"""With fewer images in the search split, a line says how coarse its rewards are."""


def _say_how_sure(task: Task, recorder: Recorder) -> None:
    """Warns where the search split is so small that many candidates have the same reward."""
    if task.data is None or task.measure is not None or not task.data.task.assigns_classes:
        return
    images = len(task.data.search)
    if images < _FEW:
        recorder.say(f"the search split has {counted(images, 'image')}: a reward moves in steps of {1 / images:.3f}")


def _say_what_is_not_trained(task: Task, recorder: Recorder) -> None:
    """Warns where candidates are scored on classes that no training image shows, as where each has one image."""
    if task.data is None or task.measure is not None or not task.data.task.assigns_classes:
        return
    classes = task.data.untrained_classes()
    if classes:
        scored = len(set(task.data.search.targets.tolist()))
        recorder.say(
            f"{len(classes)} of the {scored} classes in the search split have no image to train on, such as class "
            f"{classes[0]}: give at least two images of each"
        )


def _say_widths(task: Task, recorder: Recorder) -> None:
    """Says what widths are rounded to, where the user left that open."""
    groups = [decision for decision in task.problem.decisions if not decision.may_vanish]
    line = rounding_line([decision.step for decision in groups], task.pruning.round_to)
    if line is not None and task.problem.kind == "filter":
        recorder.say(line)


def _problem_of_baselines(problem: PruningProblem, delivered: Delivered) -> PruningProblem:
    """Returns the problem for baselines: the same, with the FLOPs of the delivered network as budget if it has none."""
    return problem if problem.limit is not None else replace(problem, budget=Budget(flops=delivered.costs["flops"]))
