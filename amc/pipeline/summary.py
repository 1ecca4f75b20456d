"""The figures of a run, as `policy.json` and `summary.json` hold them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from agents import SearchResult
from amc.costs.counting import operators_by_own_rule, uncounted_operators
from amc.pipeline.deliver import Delivered
from amc.pipeline.search import SearchConfig
from amc.pipeline.speed import slower_note
from amc.pipeline.task import Task
from amc.problem import PruningProblem
from amc.runtime.call import on_device
from amc.storage.source import ModelSource
from amc.structure import Allocation
from amc.utils.versions import versions


def policy_record(problem: PruningProblem, allocation: Allocation) -> dict[str, Any]:
    """Returns an allocation as `policy.json` holds it: widths, and pruning ratios (fractions removed) beside them."""
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
    """Words what the figures of a run's networks are, and how sure they are: accuracies have a standard error.

    Args:
        task: The task.
        dense: The dense network's figure, of which the standard error is given.
    """
    if task.measure is not None or task.data is None:
        return f"{getattr(task.measure, '__name__', 'evaluate')}, a measure of your own"
    title = task.data.task.title
    if not task.data.task.assigns_classes:
        return title
    images, share = len(task.data.test), min(max(dense / 100, 0.0), 1.0)
    return f"{title}; standard error {100 * math.sqrt(share * (1 - share) / images):.2f} ({images:,} images)"


def not_counted(task: Task) -> dict[str, int]:
    """Returns which operators the FLOPs of a network leave out: how often each is called, by name."""
    example = on_device(task.example_input, next(task.model.parameters()).device)
    return uncounted_operators(task.model, example)


def own_rules(task: Task) -> dict[str, int]:
    """Returns which operators' FLOPs are counted by a rule of our own: how often each is called, by name."""
    example = on_device(task.example_input, next(task.model.parameters()).device)
    return operators_by_own_rule(task.model, example)


def summary_record(
    command: str,
    model: str,
    seed: int,
    *,
    costs: Mapping[str, int | float],
    accuracy: Mapping[str, float],
    dense_costs: Mapping[str, int | float] | None = None,
    metric: str | None = None,
    left_out: Mapping[str, int] | None = None,
    own_rule: Mapping[str, int] | None = None,
    budget: Mapping[str, int] | None = None,
    pruning: Mapping[str, Any] | None = None,
    agent: str | None = None,
    search: Mapping[str, Any] | None = None,
    latency_ms: Mapping[str, Any] | None = None,
    baselines: Mapping[str, Mapping[str, Any]] | None = None,
    schedule: str = "one_shot",
    rounds: Sequence[Mapping[str, Any]] = (),
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Gathers the figures of a network, as `summary.json` holds them: the same entries whatever command made it.

    Args:
        command: The command: `"compress"`, `"prune"` or `"finetune"`.
        model: Name of the dense network.
        seed: Seed of everything random.
        costs: What the pruned network costs, by metric.
        accuracy: Test top-1 in percent, or the user's own measure: any of `"dense"`, `"pruned"` (before fine-tuning)
            and `"finetuned"`.
        dense_costs: What the dense network costs, by metric, where that is known.
        metric: What the figures under `accuracy` are, in words.
        left_out: Operators that the FLOPs leave out, and how often each is called.
        own_rule: Operators whose FLOPs are counted by a rule of our own, and how often each is called.
        budget: The largest costs within the budget, by metric.
        pruning: The options of pruning.
        agent: Who chose the allocation.
        search: Figures of the search.
        latency_ms: Measured latencies; see `amc.pipeline.speed`.
        baselines: Figures of the agents compared with.
        schedule: In which rounds the network was made.
        rounds: Figures of each round where there were several; see `amc.pipeline.rounds`.
        notes: What is to be said of the network: which epoch was kept, and warnings of its training.

    Returns:
        The record; what is not known is null or empty.
    """
    return {
        "command": command,
        "model": model,
        "agent": agent,
        "seed": seed,
        "pruning": None if pruning is None else dict(pruning),
        "budget": dict(budget or {}),
        "costs": {name: {"dense": (dense_costs or {}).get(name), "pruned": cost} for name, cost in costs.items()},
        "not_counted": dict(left_out or {}),
        "counted_by_own_rule": dict(own_rule or {}),
        "latency_ms": None if latency_ms is None else dict(latency_ms),
        "metric": metric,
        "accuracy": {name: accuracy.get(name) for name in ("dense", "pruned", "finetuned")},
        "search": None if search is None else dict(search),
        "baselines": {name: dict(figures) for name, figures in (baselines or {}).items()},
        "schedule": schedule,
        "rounds": [dict(record) for record in rounds],
        "notes": list(notes),
        "versions": versions(),
    }


def summarise(
    task: Task,
    source: ModelSource,
    search: SearchConfig,
    outcome: SearchResult,
    dense: float,
    delivered: Delivered,
    latency_ms: Mapping[str, Any],
    baselines: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Gathers the figures of a run; see `summary_record`.

    Args:
        task: The task.
        source: The name of the model.
        search: The search.
        outcome: What the search found.
        dense: The figure of the dense network, such as its top-1 on the test images in percent.
        delivered: The network that is handed over.
        latency_ms: Measured latencies; see `amc.pipeline.speed`.
        baselines: Figures of the agents compared with.
    """
    return summary_record(
        "compress",
        source.reference,
        search.seed,
        costs=delivered.costs,
        accuracy={"dense": dense, "pruned": delivered.pruned, "finetuned": delivered.finetuned},
        dense_costs=task.problem.dense_costs,
        left_out=not_counted(task),
        own_rule=own_rules(task),
        budget=task.problem.limits,
        metric=metric_title(task, dense),
        notes=tuple(filter(None, (*delivered.notes, slower_note(latency_ms, task.problem.kind)))),
        latency_ms=latency_ms,
        pruning=asdict(task.pruning),
        agent=str(search.agent),
        search={
            "episodes": len(outcome.episodes),
            "seconds": sum(episode.seconds for episode in outcome.episodes),
            "best_reward": outcome.best.reward,
        },
        baselines=baselines,
        schedule=task.schedule,
        rounds=delivered.rounds,
    )
