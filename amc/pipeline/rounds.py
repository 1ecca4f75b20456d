"""Carrying out a schedule: rounds of pruning, refit or rewinding, and training.

Each round prunes the network that the round before has trained, and measures, ranks and refits it like a dense one.
What is kept composes: the last network is described in channels of the dense network, so nothing needs the networks in
between.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from amc.costs import Budget
from amc.errors import ConfigurationError
from amc.pipeline.families import Family, create_family
from amc.pipeline.recorder import Recorder, training_hooks
from amc.pipeline.stability import pruning_stability
from amc.pipeline.task import Task
from amc.problem import PruningProblem, filter_problem
from amc.pruning.schedules import SCHEDULES, Goal, Round
from amc.runtime.call import on_device
from amc.runtime.device import device_of
from amc.structure import Allocation, ModelStructure
from amc.structure.slicing import cut
from amc.tracing.trace import trace_structure
from amc.training import fine_tune, train_model
from amc.training.defaults import fitted, with_epochs
from amc.training.objective import AfterStep
from amc.training.records import TrainingResult
from amc.training.reinitialise import reinitialise, shuffled
from amc.utils.noted import noting_warnings
from amc.utils.options import create, file_stem


@dataclass(frozen=True)
class Carried:
    """The result of all rounds.

    Attributes:
        pruned: The network after the last pruning, before it was rewound or trained.
        finished: The same after training.
        kept: Kept channels of every group that was cut, in those of the dense network, by its index there.
        notes: Remarks for the user: which epochs were kept, and warnings from the trainings.
        records: Figures of each round where there are several, for JSON; accuracies are those on the search split.
        curve: Loss and accuracy (search split) of every epoch, those of all rounds in a row, for JSON.
    """

    pruned: nn.Module
    finished: nn.Module
    kept: Mapping[int, Tensor]
    notes: tuple[str, ...] = ()
    records: tuple[dict[str, Any], ...] = ()
    curve: tuple[dict[str, Any], ...] = ()


def plan_rounds(task: Task, share: float) -> tuple[Round, ...]:
    """Returns the rounds of a task's schedule.

    Args:
        task: The task.
        share: Share of the dense network's cost that is left in the end, in the metric of the budget.

    Raises:
        UnknownNameError: If no schedule has the name.
        ConfigurationError: If an option is wrong, the epochs do not suffice, or the task lacks what the schedule needs.
    """
    schedule = create(SCHEDULES, task.schedule)
    rounds = schedule.rounds(
        Goal(share, with_epochs(task.finetune, task.data).planned_epochs, task.train.planned_epochs)
    )
    if task.pruning.blocks and len(rounds) > 1:
        raise ConfigurationError(
            f"pruning.blocks drops blocks at once, and the schedule {task.schedule!r} prunes in {len(rounds)} rounds; "
            "choose the schedule 'one_shot', or leave blocks whole"
        )
    if task.tune is not None and any(step.retrain or step.total for step in rounds):
        raise ConfigurationError(
            f"the schedule {task.schedule!r} decides how networks are trained, and finetune is a function of your own; "
            "give an amc.FineTuneConfig, or choose the schedule 'iterative'"
        )
    if task.data is None and any(step.retrain for step in rounds):
        raise ConfigurationError(f"the schedule {task.schedule!r} trains networks and needs data; give data")
    if task.initial is None and any(step.rewind in ("init", "early", "redrawn") for step in rounds):
        raise ConfigurationError(
            f"the schedule {task.schedule!r} rewinds to the weights before training, which are known only of a network "
            "that is trained first: set train_first, and leave weights out, or choose the schedule 'lr_rewinding'"
        )
    return rounds


def carry_out(task: Task, family: Family, name: str, allocation: Allocation, recorder: Recorder) -> Carried:
    """Carries out the schedule of a task for an allocation.

    Args:
        task: What is pruned, and how it is trained.
        family: Prunes the dense network.
        name: Who chose the allocation.
        allocation: What is kept in the end.
        recorder: Reports every round, and keeps the states of trainings.

    Raises:
        StructureError: If a pruned network does not cost what was predicted.
    """
    problem = task.problem
    target, widths = problem.widths(allocation), problem.dense_widths
    notes: list[str] = []
    rounds = plan_rounds(task, problem.cost(target) / problem.cost(widths))
    network, kept, records = task.model, dict[int, Tensor](), []
    curve: list[dict[str, Any]] = []
    accuracy = task.searched(task.model) if len(rounds) > 1 else 0.0
    for number, step in enumerate(rounds):
        before, is_last = widths, step is rounds[-1]
        widths = target if is_last else round_widths(problem, target, step.budget, before)
        part = allocation if len(rounds) == 1 else part_of(problem, before, widths)
        label = name if len(rounds) == 1 else f"{name}, round {number + 1} of {len(rounds)}"
        now, prunes = _prepared(task, family, network, step, is_first=number == 0)
        with recorder.stage(f"prune and refit ({label})") as advance:
            pruned = prunes.prune(part, advance)
        kept = composed(task.structure, kept, now.structure, prunes.kept(part))
        keep = prunes.keeper(pruned)
        network = _rewound(task, step, pruned, kept, number)
        keep(network)
        file = f"{file_stem(name)}-{allocation.digest()}" + ("" if len(rounds) == 1 else f"-round{number + 1}")
        with noting_warnings() as warned:
            training = _Training(step, number, is_last, label, recorder.checkpoint(file))
            trained = _train(task, training, network, keep, recorder)
        notes += filter(None, (trained.note, *warned))
        curve += [{**record, "epoch": record["epoch"] + _last_epoch(curve)} for record in trained.curve]
        if len(rounds) > 1:
            records.append(_record(task, step, widths, accuracy, pruned, network))
            accuracy = records[-1]["search_trained"]
    return Carried(pruned, network, kept, tuple(notes), tuple(records), tuple(curve))


def _last_epoch(curve: Sequence[Mapping[str, Any]]) -> int:
    """Returns how many epochs a curve has, 0 if it is empty."""
    return int(curve[-1]["epoch"]) if curve else 0


def round_widths(
    problem: PruningProblem, target: Sequence[int], budget: float, before: Sequence[int]
) -> tuple[int, ...]:
    """Returns the widths of a round: the final ones, raised in proportion to a larger budget.

    Args:
        problem: The problem of the dense network.
        target: The final widths.
        budget: Share of the dense network's cost that may be left.
        before: The widths after the previous round; none rises.
    """
    share = problem.cost(target) / problem.cost(problem.dense_widths)
    if budget <= share:
        return tuple(target)
    done = (1 - budget) / (1 - share)  # of all that goes, in every bounded metric
    final, dense = problem.costs_of(target), problem.dense_costs
    limits = {name: dense[name] - done * (dense[name] - final[name]) for name in problem.limits or [problem.metric]}
    bounds = Budget.of({name: int(limit) for name, limit in limits.items()})
    raised = replace(problem, budget=bounds).project(problem.keep_ratios(target))
    return tuple(min(old, max(low, width)) for old, low, width in zip(before, target, raised, strict=True))


def part_of(problem: PruningProblem, before: Sequence[int], widths: Sequence[int]) -> Allocation:
    """Returns the allocation of one round: the channel groups that lose channels in it, or all layers with weights."""
    if problem.kind == "weight":  # zeros of earlier rounds must stay zero
        return problem.allocation(widths)
    names = [decision.name for decision in problem.decisions]
    falls = {name: width for name, old, width in zip(names, before, widths, strict=True) if width < old}
    return Allocation(problem.kind, falls)


def composed(
    dense: ModelStructure, kept: Mapping[int, Tensor], structure: ModelStructure, stays: Mapping[int, Tensor]
) -> dict[int, Tensor]:
    """Translates what a round keeps of a pruned network into channels of the dense one.

    Args:
        dense: Structure of the dense network.
        kept: What earlier rounds have kept, in channels of the dense network, by group.
        structure: Structure of the network that the round has pruned; its groups have the same names.
        stays: What the round keeps of it, in its own channels, by its own groups.
    """
    places = {group.name: index for index, group in enumerate(dense.groups)}
    result = dict(kept)
    for index, channels in stays.items():
        place = places[structure.groups[index].name]
        result[place] = kept[place][channels] if place in kept else channels
    return result


def _prepared(task: Task, family: Family, network: nn.Module, step: Round, *, is_first: bool) -> tuple[Task, Family]:
    """Returns the task of pruning the network that a round starts from, and what prunes it."""
    recovery = task.pruning.recovery if step.recovery is None else step.recovery
    if is_first and recovery == task.pruning.recovery:
        return task, family
    now = replace(task, pruning=replace(task.pruning, recovery=recovery))
    if not is_first:
        now = replace(now, model=network)
        if task.problem.kind == "filter":
            structure = trace_structure(network.eval(), on_device(task.example_input, device_of(network)))
            now = replace(now, structure=structure, problem=_unbounded(structure, task))
    return now, create_family(now)


def _unbounded(structure: ModelStructure, task: Task) -> PruningProblem:
    """Returns the problem of a pruned network, where any width is allowed."""
    rules = task.pruning
    return filter_problem(structure, None, min_keep_ratio=0.0, exclude=rules.exclude, residual=rules.residual)


def _rewound(task: Task, step: Round, pruned: nn.Module, kept: Mapping[int, Tensor], number: int) -> nn.Module:
    """Returns the network to train: a copy of the pruned one, or one with other weights of the same shapes."""
    if step.rewind == "none":
        return copy.deepcopy(pruned)
    if step.rewind == "random":
        network = copy.deepcopy(pruned)
        reinitialise(network, task.seed + 1 + number)
        return network
    assert task.initial is not None
    network = copy.deepcopy(task.model)
    first = shuffled(task.initial, task.seed + 1 + number) if step.rewind == "redrawn" else task.initial
    network.load_state_dict(dict(first))
    if step.rewind == "early":
        assert task.data is not None
        config = replace(task.train, epochs=step.early, keep="last")
        total = task.train.planned_epochs
        shared = task.processes
        train_model(
            network, task.data, config, seed=task.seed, device=task.device, schedule_epochs=total, processes=shared
        )
    if kept:
        cut(network, task.structure, kept)
    return network


@dataclass(frozen=True)
class _Training:
    """The training of a round's network.

    Attributes:
        step: The round.
        number: Its number, from 0.
        is_last: Whether its network is the one to deliver.
        label: What the recorder calls the network.
        checkpoint: Where the state of the training is kept.
    """

    step: Round
    number: int
    is_last: bool
    label: str
    checkpoint: Any


def _train(
    task: Task, training: _Training, model: nn.Module, keep: Callable[[nn.Module], None], recorder: Recorder
) -> TrainingResult:
    """Trains the network of a round in place, as task and round say; returns the result."""
    step = training.step
    if task.tune is not None:
        returned = task.tune(model)
        if isinstance(returned, nn.Module) and returned is not model:
            raise ConfigurationError("finetune(model) must train the network in place; it returned another one")
        keep(model)
    if task.tune is None and task.data is not None and step.epochs > 0:
        config = replace(task.train if step.retrain else task.finetune, epochs=step.epochs)
        if not training.is_last:
            config = replace(config, keep="last")  # the network is pruned again: its best epoch does not matter
        config = fitted(config, model, task.data)
        with training_hooks(recorder, training.label, len(task.data.train), config) as hooks:
            return fine_tune(
                model,
                task.data,
                config,
                teacher=None if step.retrain else task.model,
                seed=task.seed + training.number,
                device=task.device,
                hooks=hooks,
                terms=[AfterStep(keep)],
                checkpoint=training.checkpoint,
                first_epoch=step.first,
                schedule_epochs=step.total,
                processes=task.processes,
            )
    return TrainingResult((), 0)


def _record(
    task: Task, step: Round, widths: Sequence[int], before: float, pruned: nn.Module, trained: nn.Module
) -> dict[str, Any]:
    """Returns the figures of a round: the accuracy before pruning, after it, and after training."""
    accuracy = task.searched(pruned)
    return {
        "budget": step.budget,
        "cost": task.problem.cost(widths),
        "epochs": step.epochs,
        "rewind": step.rewind,
        "search_before": before,
        "search_pruned": accuracy,
        "stability": pruning_stability(before, accuracy),
        "search_trained": task.searched(trained),
    }
