"""Before a search: tracing the network and, if need be, training it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from torch import nn

from amc.costs import Budget
from amc.costs.agreement import check_dense_flops
from amc.costs.cost_model import CostModel
from amc.costs.peak_memory import peak_memory_cost
from amc.data import DataRoles
from amc.errors import ConfigurationError, DataError, ModelError
from amc.latency.networks import network_with, on_cpu
from amc.latency.target import LatencyTarget
from amc.pipeline.criterion_check import check_criterion
from amc.pipeline.data_check import check_finite, check_number_format, check_outputs
from amc.pipeline.recorder import Recorder, training_hooks
from amc.pipeline.rounds import plan_rounds
from amc.pipeline.task import Task, build_problem, example_of
from amc.pruning import PruningConfig
from amc.pruning.schedules import SCHEDULES
from amc.runtime import device_of, resolve_device, resolve_dtype
from amc.runtime.batch_size import batch_size_for
from amc.runtime.blocks import settled
from amc.runtime.call import on_device
from amc.runtime.many_inputs import Inputs, as_inputs
from amc.runtime.statistics import keep_statistics
from amc.structure import ModelStructure
from amc.tracing.other_inputs import without_failing_on
from amc.tracing.trace import trace_structure
from amc.training import FineTuneConfig, TrainConfig, is_chance, train_model
from amc.training.defaults import fitted, with_epochs
from amc.training.number_format import training_dtype
from amc.training.objective_check import check_terms
from amc.training.work import ONE, Processes, Work
from amc.utils.conversion import check_seed
from amc.utils.options import Chosen, spell

_HALF = 0.5  # of the cost: to check a schedule with where there is no budget
_HEAD_RATE, _HEAD_FACTOR = 0.1, 10.0
"""New layers are trained alone at ten times the learning rate of the whole network, up to this one."""
_MANY = 256  # inputs on which a network with layers that have not run is run
_BATCH = 32  # inputs on which a cut network is run before a search


def prepare(
    model: nn.Module,
    data: DataRoles | None,
    budget: Budget | None,
    *,
    pruning: PruningConfig,
    finetune: FineTuneConfig,
    evaluate: Callable[[nn.Module], float] | None = None,
    tune: Callable[[nn.Module], object] | None = None,
    train: TrainConfig | None = None,
    schedule: Chosen = "one_shot",
    retrain: TrainConfig | None = None,
    example_input: Any | None = None,
    calibration: Any | None = None,
    seed: int = 0,
    device: str = "auto",
    dtype: str = "auto",
    latency: LatencyTarget | None = None,
    processes: Processes = ONE,
) -> Task:
    """Traces a network and sets up its pruning problem, checking whatever can be checked before work starts.

    See `Task` for the arguments. `train` says how the network is trained first, if at all; `retrain` how schedules do.

    Raises:
        AmcError: If an option, the budget, the network or its weights cannot be used.
    """
    check_seed(seed)
    finetune = with_epochs(finetune, data)
    device = _place(model, device, dtype, is_own=evaluate is not None or tune is not None)
    keep_statistics(model)
    check_finite(data)
    example, inputs = _inputs(model, data, example_input, calibration)
    _check_trainings(model, data, finetune if tune is None else None, train, device, processes)
    pruning = replace(pruning, round_to=settled(pruning.round_to, resolve_device(device)))
    structure = _traced(model, example, data if evaluate is None else None, blocks=pruning.blocks)
    structure = _without_failing_on_more(model, structure, data, inputs)
    problem = build_problem(structure, budget, pruning, latency, partial(_memory_cost, model, on_cpu(example)))
    check_criterion(model, structure, problem, str(pruning.criterion), data, inputs)
    task = Task(
        model=model,
        data=data,
        structure=structure,
        problem=problem,
        example_input=example,
        pruning=pruning,
        finetune=finetune,
        measure=evaluate,
        tune=tune,
        calibration=inputs,
        seed=seed,
        device=device,
        dtype=dtype,
        schedule=spell(SCHEDULES, schedule),
        train=with_epochs(train or retrain or TrainConfig(), data),
        initial=None if train is None else {name: t.detach().clone() for name, t in model.state_dict().items()},
        latency=latency,
        processes=processes,
    )
    _check_rounds(task, trains_first=train is not None)
    return task


def _check_rounds(task: Task, *, trains_first: bool) -> None:
    """Rejects schedules that do not work out, and penalties and frozen layers for which the network has nothing."""
    problem = task.problem
    rounds = plan_rounds(task, _HALF if problem.limit is None else problem.limit / problem.cost_model.dense)
    if task.data is None:
        return
    if task.tune is None and any(step.epochs and not step.retrain for step in rounds):
        check_terms(task.model, task.data, task.finetune)
    if trains_first or any(step.retrain for step in rounds):
        check_terms(task.model, task.data, task.train)


def _check_trainings(
    model: nn.Module,
    data: DataRoles | None,
    finetune: FineTuneConfig | None,
    train: TrainConfig | None,
    device: str,
    processes: Processes,
) -> None:
    """Rejects trainings that the network does not allow, or that several processes cannot share.

    Raises:
        ModelError: If no parameter requires a gradient, or its number format cannot be trained.
    """
    if data is None:
        return
    tuned = finetune if finetune is not None and finetune.epochs else None
    if tuned is not None:
        _check_trainable(model, data, tuned, device)
    for config in (tuned, train):
        if config is not None:
            processes.check(Work(model, data, fitted(config, model, data)))


def _place(model: nn.Module, device: str, dtype: str, *, is_own: bool) -> str:
    """Returns where to compute: where the network is, if the user's own functions expect it there.

    Raises:
        ConfigurationError: If the device does not have the number format.
    """
    resolve_dtype(dtype, resolve_device(device))
    return str(device_of(model)) if device == "auto" and is_own else device


def _inputs(
    model: nn.Module, data: DataRoles | None, example_input: Any | None, calibration: Any | None
) -> tuple[Any, Any | None]:
    """Returns one input of the network, on its device, and the calibration inputs, if there are some."""
    inputs = None if calibration is None else as_inputs(calibration)
    if inputs is not None and not len(inputs):
        raise DataError("the calibration inputs must hold at least one; there is none")
    example = on_device(example_of(data, example_input, inputs), device_of(model))
    if example_input is None and inputs is None:
        check_number_format(model, example)
    return example, inputs


def _without_failing_on_more(
    model: nn.Module, structure: ModelStructure, data: DataRoles | None, calibration: Any | None
) -> ModelStructure:
    """Returns the structure in which groups stay whole with which the cut network fails on more than the example.

    That is a batch of the calibration inputs, or of the data's, and more of them where the example has left layers out.
    """
    count = _MANY if structure.not_run else _BATCH
    if calibration is None:
        if data is None:
            return structure
        calibration = data.calibration.take(range(min(count, len(data.calibration)))).inputs()
    size = min(_BATCH, batch_size_for(calibration))
    for start in range(0, min(len(calibration), count if structure.not_run else size), size):
        part = calibration[start : start + size]
        batch = on_device(part.value if isinstance(part, Inputs) else part, device_of(model))
        structure = without_failing_on(model, structure, batch)
    return structure


def _traced(model: nn.Module, example: Any, data: DataRoles | None, *, blocks: bool) -> ModelStructure:
    """Traces a network, and checks that its structure predicts the FLOPs exactly, and that its outputs fit the data."""
    structure = trace_structure(model, example, blocks=blocks)
    check_dense_flops(model, structure, example)
    check_outputs(model, data)
    return structure


def _check_trainable(model: nn.Module, data: DataRoles, finetune: FineTuneConfig, device: str) -> None:
    """Rejects a network that cannot be fine-tuned.

    Raises:
        ModelError: If no parameter requires a gradient, or its number format cannot be trained.
    """
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ModelError("fine-tuning needs parameters that require gradients; unfreeze some, or set finetune.epochs 0")
    training_dtype(model, data, finetune, resolve_device(device))


def _memory_cost(model: nn.Module, example: Any, structure: ModelStructure, groups: Sequence[int]) -> CostModel:
    """Returns the peak of the activations, in bytes, as a function of how many channels some groups keep."""
    decided = [structure.groups[index] for index in groups]

    def network_of(widths: Sequence[int]) -> nn.Module:
        names = (group.name for group in decided)
        return network_with(model, structure, dict(zip(names, widths, strict=True)))

    return peak_memory_cost(network_of, example, [group.channels for group in decided])


def check_trained(task: Task, figure: float, recorder: Recorder, *, untrained: bool, images: int | None = None) -> None:
    """Stops or warns if the dense network is no better than chance: then pruning costs nothing.

    Args:
        task: The task.
        figure: The dense network's figure.
        recorder: Reports it.
        untrained: Whether to continue anyway.
        images: How many images of the search split were tested; None if it was the whole test split.

    Raises:
        ModelError: If it is no better, and `untrained` is false.
    """
    if task.data is None or task.measure is not None or not is_chance(figure, task.data, images):
        return
    title = task.data.task.title
    if images is not None:
        title = title.replace("the test images", "the search images")
    found = f"the dense network must be better than chance, but reaches {figure:.2f} ({title})"
    if not untrained:
        raise ModelError(
            f"{found}: give trained weights (--weights FILE), or train it first (--train_first true; in Python "
            "train=); continue anyway with --untrained true (in Python "
            "search=amc.SearchConfig(untrained=True))"
        )
    recorder.say(f"{found}: is it trained?")


def train_dense(task: Task, config: TrainConfig, recorder: Recorder) -> None:
    """Trains the dense network in place; continues a training that was killed.

    New layers of a trained network are trained alone first: while random, they would spoil the layers before them.

    Raises:
        ConfigurationError: If there is no data to train on.
        ModelError: If the training diverges.
    """
    if task.data is None:
        raise ConfigurationError("training the dense network needs data; give data, or a trained network")
    whole = fitted(config, task.model, task.data)
    if config.head and config.head_epochs:
        assert whole.learning_rate is not None
        rate = min(_HEAD_RATE, _HEAD_FACTOR * whole.learning_rate)
        with _only_trained(task.model, config.head):
            _train(
                task,
                replace(whole, epochs=config.head_epochs, learning_rate=rate, penalties=()),
                recorder,
                "dense-head",
            )
    _train(task, whole, recorder, "dense")
    recorder.on_dense(task.model)


def _train(task: Task, config: TrainConfig, recorder: Recorder, name: str) -> None:
    """Trains the dense network, or the part of it that is not frozen."""
    assert task.data is not None
    with training_hooks(recorder, name, len(task.data.train), config) as hooks:
        checkpoint = recorder.checkpoint(name)
        train_model(
            task.model,
            task.data,
            config,
            seed=task.seed,
            device=task.device,
            hooks=hooks,
            checkpoint=checkpoint,
            processes=task.processes,
        )


@contextmanager
def _only_trained(model: nn.Module, layers: Sequence[str]) -> Iterator[None]:
    """Freezes all parameters except those of some layers for the time of a block."""
    inside = tuple(f"{layer}." for layer in layers)
    frozen = [p for name, p in model.named_parameters() if p.requires_grad and not name.startswith(inside)]
    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)
