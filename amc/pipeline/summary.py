"""The figures of a run, as `policy.json` and `summary.json` hold them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from agents import SearchResult
from amc.costs.counting import uncounted_operators
from amc.pipeline.deliver import Delivered
from amc.pipeline.search import SearchConfig
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
        "flops": problem.cost(widths, "flops"),
        "params": problem.cost(widths, "params"),
    }


def metric_title(task: Task) -> str:
    """Words what the figures of a run's networks are."""
    if task.measure is not None or task.data is None:
        return f"{getattr(task.measure, '__name__', 'evaluate')}, a measure of your own"
    return task.data.task.title


def flops_record(task: Task, delivered: Delivered) -> dict[str, Any]:
    """Returns the FLOPs of the dense and the pruned network, and which operators they leave out: calls by name."""
    example = on_device(task.example_input, next(task.model.parameters()).device)
    return {
        "dense": task.problem.costs["flops"].dense,
        "pruned": delivered.flops,
        "not_counted": uncounted_operators(task.model, example),
    }


def summarise(
    task: Task,
    source: ModelSource,
    search: SearchConfig,
    outcome: SearchResult,
    dense: float,
    delivered: Delivered,
    baselines: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Gathers the figures of a run, as `summary.json` holds them.

    Args:
        task: The task.
        source: The name of the model.
        search: The search.
        outcome: What the search found.
        dense: The figure of the dense network, such as its top-1 on the test images in percent.
        delivered: The network that is handed over.
        baselines: Figures of the agents compared with.
    """
    problem = task.problem
    return {
        "model": source.reference,
        "agent": search.agent,
        "seed": search.seed,
        "pruning": asdict(task.pruning),
        "budget": {
            "metric": problem.metric,
            "target": problem.limit,
            "achieved": problem.cost(problem.widths(delivered.allocation)),
        },
        "flops": flops_record(task, delivered),
        "params": {"dense": problem.costs["params"].dense, "pruned": delivered.params},
        "metric": metric_title(task),
        "accuracy": {"dense": dense, "pruned": delivered.pruned, "finetuned": delivered.finetuned},
        "search": {
            "episodes": len(outcome.episodes),
            "seconds": sum(episode.seconds for episode in outcome.episodes),
            "best_reward": outcome.best.reward,
        },
        "baselines": {name: dict(figures) for name, figures in baselines.items()},
        "versions": versions(),
    }
