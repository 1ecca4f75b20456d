"""The figures of a run, as `policy.json` and `summary.json` hold them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from agents import SearchResult
from amc.costs.counting import operators_by_own_rule, uncounted_operators
from amc.data import DataRoles
from amc.latency.check import points_of
from amc.pipeline.acceptance import acceptance_record
from amc.pipeline.by_class import Tested, classes_record
from amc.pipeline.deliver import Delivered
from amc.pipeline.search import SearchConfig
from amc.pipeline.speed import slower_note
from amc.pipeline.stability import pruning_stability
from amc.pipeline.task import Task
from amc.problem import PruningProblem
from amc.pruning.neuron_sparsity import neuron_sparsity
from amc.runtime.call import on_device
from amc.storage.source import ModelSource
from amc.storage.summary import DataCounts, Epoch, Layer, Summary, accuracies, costs_by_metric
from amc.structure import Allocation
from amc.utils.counted import counted
from amc.utils.plain_json import as_type


def policy_record(problem: PruningProblem, allocation: Allocation) -> dict[str, Any]:
    """Returns an allocation as `policy.json` holds it: widths and pruning ratios (fractions removed)."""
    widths = problem.widths(allocation)
    ratios = {
        decision.name: round(1 - width / decision.size, 6)
        for decision, width in zip(problem.decisions, widths, strict=True)
    }
    return {
        **allocation.as_dict(),
        "pruning_ratios": ratios,
        "costs": problem.costs_of(widths),
    }


def metric_title(task: Task, dense: float) -> str:
    """Describes the metric of a run, with the standard error of accuracies.

    Args:
        task: The task.
        dense: The dense network's figure, whose standard error is given.
    """
    if task.measure is not None or task.data is None:
        return f"{getattr(task.measure, '__name__', 'evaluate')}, a measure of your own"
    title = task.data.task.title
    if not task.data.task.assigns_classes:
        return title
    images, share = len(task.data.test), min(max(dense / 100, 0.0), 1.0)
    if share in (0.0, 1.0):  # where the standard error would be zero, the exact bound says more
        bound = 100 * (1 - 0.05 ** (1 / images))
        return (
            f"{title}; dense: all {images:,} images {'right' if share else 'wrong'}, {bound:.1f} off at most (95% sure)"
        )
    return f"{title}; standard error {100 * math.sqrt(share * (1 - share) / images):.2f} ({counted(images, 'image')})"


def not_counted(task: Task) -> dict[str, int]:
    """Returns the operators that the FLOPs of a network leave out: how often each is called, by name."""
    example = on_device(task.example_input, next(task.model.parameters()).device)
    return uncounted_operators(task.model, example)


def own_rules(task: Task) -> dict[str, int]:
    """Returns the operators whose FLOPs are counted by a rule of this project: how often each is called, by name."""
    example = on_device(task.example_input, next(task.model.parameters()).device)
    return operators_by_own_rule(task.model, example)


def summarise(
    task: Task,
    source: ModelSource,
    search: SearchConfig,
    outcome: SearchResult,
    dense: Tested,
    delivered: Delivered,
    latency_ms: Mapping[str, Any],
    baselines: Mapping[str, Mapping[str, Any]],
    layers: Sequence[Layer],
) -> dict[str, Any]:
    """Gathers the figures of a run; see `Summary`.

    Args:
        task: The task.
        source: The name of the model.
        search: The search.
        outcome: What the search found.
        dense: The test of the dense network.
        delivered: The delivered network.
        latency_ms: Measured latencies; see `amc.pipeline.speed`.
        baselines: Figures of the agents compared with.
        layers: The decisions; see `amc.pipeline.layer_records`.
    """
    notes = (*delivered.notes, slower_note(latency_ms, task.problem.kind))
    return Summary(
        command="compress",
        model=source.reference,
        data=_counts(task.data),
        seed=search.seed,
        costs=costs_by_metric(delivered.costs, task.problem.dense_costs),
        accuracy=accuracies(dense.figure, delivered.pruned, delivered.finetuned),
        not_counted=not_counted(task),
        counted_by_own_rule=own_rules(task),
        budget=dict(task.problem.limits),
        metric=metric_title(task, dense.figure),
        notes=[note for note in notes if note],
        latency_ms=dict(latency_ms),
        time_budget=_time_budget(task, delivered),
        pruning=asdict(task.pruning),
        agent=str(search.agent),
        search={
            "episodes": len(outcome.episodes),
            "seconds": sum(episode.seconds for episode in outcome.episodes),
            "best_reward": outcome.best.reward,
        },
        baselines={name: dict(figures) for name, figures in baselines.items()},
        schedule=task.schedule,
        rounds=[dict(record) for record in delivered.rounds],
        stability=_stability(dense.figure, delivered),
        sparsity=[asdict(layer) for layer in neuron_sparsity(delivered.model)],
        curve=as_type(list(delivered.curve), list[Epoch]),
        layers=list(layers),
        classes=None if delivered.by_class is None else classes_record(task, dense, delivered.by_class),
    ).as_dict()


def _counts(data: DataRoles | None) -> DataCounts | None:
    if data is None:
        return None
    return DataCounts(data.name, *(len(role) for role in (data.train, data.calibration, data.search, data.test)))


def _stability(dense: float, delivered: Delivered) -> list[float | int | None]:
    """Returns the pruning stability of each round."""
    if delivered.rounds:
        return [record["stability"] for record in delivered.rounds]
    return [pruning_stability(dense, delivered.pruned)]


def _time_budget(task: Task, delivered: Delivered) -> dict[str, Any] | None:
    if delivered.accepted is None or task.latency is None:
        return None
    target = task.latency
    return acceptance_record(delivered.accepted, target.check, points_of(target.profile, target.fitted))
