"""The record of each decision in `summary.json`: its size, its cost, and what it can lose."""

from __future__ import annotations

from amc.errors import ConfigurationError
from amc.pipeline.task import Task
from amc.problem.evaluator import Errors, Evaluator
from amc.storage.summary import KEEP_RATIOS, Layer


def layer_records(task: Task, evaluator: Evaluator) -> list[Layer]:
    """Describes the decisions of a task, in the order of execution.

    Args:
        task: The task.
        evaluator: Gives the errors by width, if they are known.

    Returns:
        Their records; the errors are those at `KEEP_RATIOS`.
    """
    try:
        errors: Errors = evaluator.errors()
    except ConfigurationError:
        errors = {}
    records = []
    for decision in task.problem.decisions:
        if task.problem.kind == "filter":
            layers = task.structure.layers_of(decision.group)
        else:
            layers = (task.structure.layers[decision.group],)
        known = errors.get(decision.name)
        at = [] if known is None else [float(f"{known[round(ratio * decision.size)]:.6g}") for ratio in KEEP_RATIOS]
        flops, params = sum(layer.flops for layer in layers), sum(layer.params for layer in layers)
        records.append(Layer(decision.name, decision.size, flops, params, at))
    return records
