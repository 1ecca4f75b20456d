"""The whole job: search, prune, fine-tune, compare."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from amc.costs import Budget
from amc.data import DataRoles, roles_of_pair
from amc.errors import ConfigurationError, ModelError
from amc.latency.target import LatencyTarget
from amc.pipeline.job import Job
from amc.pipeline.kept_run import KeptRun, fingerprint
from amc.pipeline.prepare import prepare
from amc.pipeline.recorder import Recorder, ShowingRecorder
from amc.pipeline.result import CompressionResult
from amc.pipeline.search import SearchConfig, default_budget
from amc.pruning import PruningConfig
from amc.runtime.plain import plain_network
from amc.storage.source import ModelSource
from amc.training import FineTuneConfig, TrainConfig
from amc.utils.options import Chosen
from amc.utils.progress_display import ProgressDisplay

if TYPE_CHECKING:
    from amc.data.adapters import DataLike


def compress(
    model: nn.Module,
    data: DataRoles | Sequence[DataLike] | None,
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
    policy: str | os.PathLike[str] | None = None,
    evaluate: Callable[[nn.Module], float] | None = None,
    calibration: Any | None = None,
    example_input: Any | None = None,
    profile: str | os.PathLike[str] | None = None,
    untrained: bool = False,
    progress: bool = True,
    out: str | os.PathLike[str] | Recorder | None = None,
) -> CompressionResult:
    """Fits a network into a budget.

    Args:
        model: The dense network, without its wrappers if it has some (`torch.compile`, `DataParallel`). Its weights
            change only if it is trained first; attention modules are replaced by twins that can lose heads.
        data: A pair of training and test loaders, data sets or tensor pairs `(inputs, targets)`, or three with a
            validation split between, from which the four roles are drawn; or the roles themselves, with a task, a loss
            and a metric (see `amc.roles_from_loaders`). None only with an `evaluate` and an `example_input` of your
            own.
        budget: What the smaller network may cost; if not given, half the FLOPs, or no bound for the rewards that weigh
            accuracy against size themselves (`"flops"`, `"params"`).
        agent: What looks for the allocation: a name such as `"ddpg"`, with options as in `"cem:population=8"`; that of
            `search` if not given.
        episodes: Candidates that the agent may try; those of `search` if not given.
        seed: Seed of everything random; that of `search` if not given.
        device: `"auto"`, `"cpu"` or `"cuda"`, where `model` ends too. `"auto"` is CUDA where there is one; with an
            `evaluate` or a `finetune` of your own it is where `model` is.
        search: Other settings of the search, such as the reward, the number format of the scoring, and the schedule.
        pruning: What is removed and how the rest makes up for it.
        finetune: Settings of the fine-tuning, or a function that fine-tunes a network in place.
        train: Settings to train the dense network with first; None if it is trained.
        compare_with: Agents that do the same job under the same rules.
        policy: A trained agent (`agent.safetensors`): it plays one episode without noise, then `episodes` candidates
            from there; 0 of them take its allocation as it is.
        evaluate: Figure of merit of a network, higher is better, in place of the accuracy on `data`: for tasks other
            than classification. It serves the search AND the report, so let it read no test data. Networks come on
            `device`, in their own number format; a candidate's batch norms are re-estimated where there is data or
            `calibration`.
        calibration: A few hundred training inputs without targets, for tables, refit and batch norms, where `evaluate`
            and `finetune` are your own: a tensor, a tuple or a mapping of arguments with a common first axis, or an
            iterable of batches of these. With `data` it stands in for the data's own.
        example_input: One input of the network (a tensor with a batch axis, a tuple, or a mapping of keyword
            arguments); an image of the data if not given.
        profile: A profile of the device and engine, as `amc profile` writes it, for a budget in time.
        untrained: Whether to work on a network that is no better than chance all the same. Without it such a network
            stops the run: whatever is removed of it costs nothing.
        progress: Whether to show on stderr how far the work is, where it takes more than two seconds.
        out: A folder that keeps the run while it works, and holds what `CompressionResult.save` writes at its end. If
            the run ends early, by an error of `evaluate` or by a kill, the same call carries on from what was done. Or
            a recorder of your own (see `amc.pipeline.recorder`), which follows what happens.

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
    model = plain_network(model)
    trained = None if policy is None else os.fspath(policy)
    given: dict[str, Any] = {"agent": agent, "episodes": episodes, "seed": seed, "policy": trained}
    search = replace(search or SearchConfig(), **{name: value for name, value in given.items() if value is not None})
    _check_judge(data, evaluate)
    _check_effect(data, evaluate, finetune, search.first_images)
    roles = data if data is None or isinstance(data, DataRoles) else roles_of_pair(data, seed=search.seed)
    _check_reward(roles, evaluate, search.reward)
    target = None if profile is None else LatencyTarget.read(Path(profile))
    shown = ShowingRecorder(ProgressDisplay(only_slow=True)) if progress else Recorder()
    with shown.stage("trace the network", 1) as advance:
        task = prepare(
            model,
            roles,
            budget or default_budget(search.reward),
            pruning=pruning or PruningConfig(),
            finetune=finetune if isinstance(finetune, FineTuneConfig) else FineTuneConfig(),
            evaluate=evaluate,
            tune=finetune if callable(finetune) else None,
            train=train,
            schedule=search.schedule,
            example_input=example_input,
            calibration=calibration,
            seed=search.seed,
            device=device,
            dtype=search.dtype,
            latency=target,
        )
        advance(1.0)
    job = Job(task, search, ModelSource.of(model), train, compare_with, untrained=untrained)
    if isinstance(out, Recorder):
        return job.carry_out(out)
    if out is None:
        return job.carry_out(shown)
    judge = {"evaluate": evaluate, "finetune": finetune, "train": train, "compare_with": compare_with}
    profiled = {} if target is None else {"profile": target.fitted}
    rules = {"budget": task.problem.budget, "pruning": task.pruning, **profiled, **asdict(search), **judge}
    return _keep(job, Path(out), rules, shown)


def _keep(job: Job, folder: Path, rules: Mapping[str, Any], shown: Recorder) -> CompressionResult:
    """Carries a job out while its run is kept in a folder, where the same call finds it again."""
    with KeptRun(folder, fingerprint(job.task.model, job.task.data, job.train is None, **rules), shown) as kept:
        result = job.carry_out(kept)
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


def _check_judge(data: object, evaluate: object) -> None:
    """Rejects a search without anything to score candidates."""
    if data is None and evaluate is None:
        raise ConfigurationError("without data your own evaluate must be given: compress(..., evaluate=...)")


def _check_reward(data: DataRoles | None, evaluate: object, reward: object) -> None:
    """Rejects a reward that needs figures that the task does not have."""
    if callable(reward) or reward == "accuracy":
        return
    if data is not None and evaluate is None and not data.task.assigns_classes:
        raise ConfigurationError(
            f"where the metric is {data.task.metric_name}, the reward must be 'accuracy', which is then a hundredth of "
            f"its value, or a function of an envs.rewards.Outcome; {reward!r} is made of classifications"
        )
    if evaluate is not None:
        raise ConfigurationError(
            f"with an evaluate of your own the reward must be 'accuracy', which is then a hundredth of its value, or a "
            f"function of an envs.rewards.Outcome; {reward!r} is made of classifications"
        )


def _check_effect(data: object, evaluate: object, finetune: object, first_images: object) -> None:
    """Rejects arguments that would have no effect."""
    if data is None and isinstance(finetune, FineTuneConfig) and finetune.epochs != 0:
        raise ConfigurationError("fine-tuning by settings needs data; give finetune=a function of the network instead")
    if evaluate is not None and first_images is not None:
        raise ConfigurationError("an evaluate of your own sees all that it needs at once; leave first_images out")
