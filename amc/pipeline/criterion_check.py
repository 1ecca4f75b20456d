"""Checks, before work starts, that a criterion has what it needs."""

from __future__ import annotations

from typing import Any

from torch import nn

from agents import Agent
from amc.data import DataRoles
from amc.errors import ConfigurationError
from amc.pipeline.task import Task
from amc.problem import PruningProblem
from amc.pruning import CRITERIA, Evidence
from amc.pruning.criteria.base import removal_order
from amc.pruning.criteria.evidence import ACTIVATIONS, GRADIENTS
from amc.runtime.call import on_device
from amc.runtime.device import device_of
from amc.structure import ModelStructure
from amc.utils.options import create

_FEW = 16  # enough to see whether activations are ever zero


def check_ranking(agent: Agent, task: Task, problem: PruningProblem) -> None:
    """Checks the criterion of an agent that ranks all units of a network by one; other agents pass.

    Args:
        agent: The agent.
        task: Has the network and the data.
        problem: What is decided; the task's, or one at another budget.

    Raises:
        UnknownNameError: If there is no such criterion.
        ConfigurationError: If it needs something that the network or the data lack.
    """
    if hasattr(agent, "criterion_for"):
        name = agent.criterion_for(problem.kind)
        check_criterion(task.model, task.structure, problem, name, task.data, task.calibration)


def check_criterion(
    model: nn.Module,
    structure: ModelStructure,
    problem: PruningProblem,
    name: str,
    data: DataRoles | None,
    inputs: Any | None,
) -> None:
    """Tries a criterion on the weights and a few images, and checks that it can have the rest of what it needs.

    Args:
        model: The dense network, trained or not.
        structure: Its structure.
        problem: What is decided.
        name: The criterion, with its options.
        data: The data, whose calibration split has labels.
        inputs: Calibration inputs in its place, without labels; None for none.

    Raises:
        ConfigurationError: If it needs images or labels and there are none, or something that the network lacks.
    """
    if name == "auto":
        return
    criterion = create(CRITERIA[problem.kind], name)
    if criterion.needs and data is None and inputs is None:
        raise ConfigurationError(
            f"the criterion {name!r} needs data: its {' and '.join(sorted(criterion.needs))} come from calibration "
            "images; give data, or choose a criterion that looks at weights alone, such as 'l2' or 'magnitude'"
        )
    if GRADIENTS in criterion.needs and (data is None or inputs is not None):
        raise ConfigurationError(
            f"the criterion {name!r} needs labels: its gradients are those of the loss, and calibration= has inputs "
            "alone; give data and leave calibration out, or choose a criterion without gradients, such as 'l2'"
        )
    if problem.kind != "filter" or criterion.needs - {ACTIVATIONS}:
        return
    images = []
    if criterion.needs:
        given: Any = inputs
        if inputs is None and data is not None:
            given = data.calibration.take(range(min(_FEW, len(data.calibration)))).inputs()
        images = [on_device(given[:_FEW], device_of(model))]
    evidence = Evidence(model, structure, images)
    groups = [structure.groups[decision.group] for decision in problem.decisions]
    for group in (group for group in groups if group.block is None):  # a criterion ranks channels, not blocks
        removal_order(criterion, group, evidence)
