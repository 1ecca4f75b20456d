"""The whole job: search, prune, fine-tune, compare."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from amc.cluster import OpenExecutor
from amc.costs import Budget
from amc.data import DataRoles
from amc.errors import ConfigurationError, ModelError
from amc.latency.target import LatencyTarget
from amc.pipeline.compare import check_choices
from amc.pipeline.job import Job
from amc.pipeline.kept_run import KeptRun, fingerprint
from amc.pipeline.own_task import Given, OwnTask, given_by
from amc.pipeline.prepare import prepare
from amc.pipeline.recorder import Recorder, ShowingRecorder
from amc.pipeline.result import CompressionResult
from amc.pipeline.search import SearchConfig, default_budget
from amc.pipeline.spreading import spread_over
from amc.pipeline.task import Task
from amc.pruning import PruningConfig
from amc.runtime.plain import plain_network
from amc.storage.source import ModelSource
from amc.training import FineTuneConfig, TrainConfig
from amc.training.distributed.processes import processes_for
from amc.training.work import Processes
from amc.utils.options import Chosen
from amc.utils.progress_display import ProgressDisplay

if TYPE_CHECKING:
    from amc.data.adapters import DataLike

_FREE = ("untrained", "cluster", "workers")
"""Settings of the search that may change when a run is continued."""


def compress(
    model: nn.Module,
    data: DataRoles | Sequence[DataLike] | OwnTask,
    budget: Budget | None = None,
    *,
    agent: Chosen | None = None,
    episodes: int | None = None,
    seed: int | None = None,
    device: str = "auto",
    search: SearchConfig | None = None,
    pruning: PruningConfig | None = None,
    finetune: FineTuneConfig | Callable[[nn.Module], object] | None = None,
    train: TrainConfig | None = None,
    compare_with: Sequence[str] = (),
    devices: int = 1,
    progress: bool = True,
    out: str | os.PathLike[str] | Recorder | None = None,
) -> CompressionResult:
    """Fits a network into a budget.

    Args:
        model: The dense network, without its wrappers if it has some (`torch.compile`, `DataParallel`). Its weights
            change only if it is trained first; attention modules are replaced by twins that can lose heads.
        data: A pair of training and test loaders, data sets or tensor pairs `(inputs, targets)`, or three with a
            validation split between, from which the four roles are drawn; or the roles themselves, with a task, a loss
            and a metric (see `amc.roles_from_loaders`); or an `amc.OwnTask`, whose function judges networks.
        budget: What the smaller network may cost; if not given, half the FLOPs, or no bound for the rewards that weigh
            accuracy against size themselves (`"flops"`, `"params"`).
        agent: What looks for the allocation: a name such as `"ddpg"`, with options as in `"cem:population=8"`; that of
            `search` if not given.
        episodes: Candidates that the agent may try; those of `search` if not given.
        seed: Seed of everything random; that of `search` if not given.
        device: `"auto"`, `"cpu"` or `"cuda"`, where `model` ends too. `"auto"` is CUDA where there is one; with an
            `evaluate` or a `finetune` of your own it is where `model` is.
        search: Other settings of the search, such as the reward, a trained policy, the schedule, and the cluster over
            which candidates are spread.
        pruning: What is removed and how the rest makes up for it.
        finetune: Settings of the fine-tuning, or a function that fine-tunes a network in place.
        train: Settings to train the dense network with first; None if it is trained.
        compare_with: Agents that do the same job under the same rules.
        devices: How many GPUs of this machine, or shares of its CPU, trainings use, with one process each. Every
            process imports the calling script, which needs `if __name__ == "__main__":` around its work.
        progress: Whether to show on stderr, in a notebook as an output of the cell, how far the work is, where it takes
            more than two seconds.
        out: A folder that keeps the run while it works, and holds what `CompressionResult.save` writes at its end. If
            the run ends early, by an error of `evaluate` or by a kill, the same call continues from what was done. Or a
            recorder of your own (see `amc.pipeline.recorder`), which follows what happens.

    Returns:
        The smaller network, on the CPU; its policy and the figures.

    Raises:
        AmcError: If anything given cannot be used; nothing has been written or trained then. A `ModelError` if the
            network turns out to be no better than chance.

    Example:
        >>> import amc
        >>> from amc.data import DataConfig, load_data
        >>> digits = load_data(DataConfig(train_images=400, test_images=100))
        >>> result = amc.compress(
        ...     amc.create_model("digits_resnet", seed=0),
        ...     digits,
        ...     amc.Budget(flops=0.5),
        ...     agent="uniform",
        ...     train=amc.TrainConfig(epochs=2),
        ...     finetune=amc.FineTuneConfig(epochs=1),
        ... )
        >>> flops = result.summary["costs"]["flops"]
        >>> flops["pruned"] <= 0.5 * flops["dense"]
        True
    """
    _check_options(model, budget, search, pruning, finetune, train)
    chosen: dict[str, Any] = {"agent": agent, "episodes": episodes, "seed": seed}
    search = replace(search or SearchConfig(), **{name: value for name, value in chosen.items() if value is not None})
    check_choices(search, compare_with)
    given = given_by(data, search.seed)
    _check_effect(given, finetune, search.first_images)
    _check_reward(given, search.reward)
    shown = ShowingRecorder(ProgressDisplay(only_slow=True)) if progress else Recorder()
    with _workers_of(search, device, devices) as open_executor, processes_for(devices, device) as processes:
        task = _traced_task(
            plain_network(model),
            given,
            budget,
            search,
            pruning or PruningConfig(),
            finetune,
            train,
            device,
            shown,
            processes,
        )
        job = Job(task, search, ModelSource.of(task.model), train, compare_with)
        return _carry_out(job, out, {"evaluate": given.evaluate, "finetune": finetune}, shown, open_executor)


def _workers_of(search: SearchConfig, device: str, devices: int) -> AbstractContextManager[OpenExecutor | None]:
    """Returns the context of the cluster that a search names."""
    return spread_over(
        search.cluster,
        search.workers,
        device=device,
        deterministic=search.deterministic,
        devices=devices,
        first_images=search.first_images,
    )


def _carry_out(
    job: Job,
    out: str | os.PathLike[str] | Recorder | None,
    functions: Mapping[str, Any],
    shown: Recorder,
    open_executor: OpenExecutor | None,
) -> CompressionResult:
    """Carries a job out where its caller wants it kept."""
    if out is None or isinstance(out, Recorder):
        return job.carry_out(shown if out is None else out, open_executor)
    return _keep(job, Path(out), functions, shown, open_executor)


def _traced_task(
    model: nn.Module,
    given: Given,
    budget: Budget | None,
    search: SearchConfig,
    pruning: PruningConfig,
    finetune: FineTuneConfig | Callable[[nn.Module], object] | None,
    train: TrainConfig | None,
    device: str,
    shown: Recorder,
    processes: Processes,
) -> Task:
    """Traces the network, and checks whatever can be checked before work starts."""
    with shown.stage("trace the network", 1) as advance:
        task = prepare(
            model,
            given.data,
            budget or default_budget(search.reward),
            pruning=pruning,
            finetune=finetune if isinstance(finetune, FineTuneConfig) else FineTuneConfig(),
            evaluate=given.evaluate,
            tune=finetune if callable(finetune) else None,
            train=train,
            schedule=search.schedule,
            example_input=given.example_input,
            calibration=given.calibration,
            seed=search.seed,
            device=device,
            dtype=search.dtype,
            latency=LatencyTarget.of(budget),
            processes=processes,
        )
        advance(1.0)
    return task


def _keep(
    job: Job, folder: Path, functions: Mapping[str, Any], shown: Recorder, open_executor: OpenExecutor | None
) -> CompressionResult:
    """Carries a job out while its run is kept in a folder, where the same call finds it again."""
    task = job.task
    rules = {
        "budget": None if task.problem.budget is None else task.problem.budget.bounds,
        "pruning": task.pruning,
        **({} if task.latency is None else {"profile": task.latency.fitted}),
        **{name: value for name, value in asdict(job.search).items() if name not in _FREE},
        **functions,
        "train": job.train,
        "compare_with": job.compare_with,
    }
    with KeptRun(folder, fingerprint(task.model, task.data, job.train is None, **rules), shown) as kept:
        result = job.carry_out(kept, open_executor)
        result.write(folder)
    return result


def _check_options(
    model: object, budget: object, search: object, pruning: object, finetune: object, train: object
) -> None:
    """Rejects arguments of other types, which would be taken for the defaults or fail late."""
    if not isinstance(model, nn.Module):
        raise ModelError(f"the model must be a torch.nn.Module, such as amc.create_model('resnet20'), not {model!r}")
    for name, given, wanted, example in (
        ("budget", budget, Budget, "Budget(flops=0.5)"),
        ("search", search, SearchConfig, "SearchConfig(reward='agreement')"),
        ("pruning", pruning, PruningConfig, "PruningConfig(round_to=8)"),
        ("finetune", finetune, FineTuneConfig, "FineTuneConfig(epochs=3), or a function of the network"),
        ("train", train, TrainConfig, "TrainConfig(epochs=30)"),
    ):
        is_function = name == "finetune" and callable(given) and not isinstance(given, type)
        if not (given is None or isinstance(given, wanted) or is_function):
            raise ConfigurationError(f"{name} must be an amc.{wanted.__name__}, such as amc.{example}, not {given!r}")


def _check_reward(given: Given, reward: object) -> None:
    """Rejects a reward that needs figures that the task does not have."""
    if callable(reward) or reward == "accuracy":
        return
    if given.evaluate is not None:
        task = "with an evaluate of your own"
    elif given.data is not None and not given.data.task.assigns_classes:
        task = f"where the metric is {given.data.task.metric_name},"
    else:
        return
    raise ConfigurationError(
        f"{task} the reward must be 'accuracy', which is then a hundredth of its value, or a function of an "
        f"envs.rewards.Outcome; {reward!r} is made of classifications"
    )


def _check_effect(given: Given, finetune: object, first_images: object) -> None:
    """Rejects arguments that would have no effect."""
    if given.data is None and isinstance(finetune, FineTuneConfig) and finetune.epochs != 0:
        raise ConfigurationError("fine-tuning by settings needs data; give finetune=a function of the network instead")
    if given.evaluate is not None and first_images is not None:
        raise ConfigurationError("first_images has no effect with an evaluate of your own; leave it out")
