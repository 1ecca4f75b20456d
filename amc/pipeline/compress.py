"""The whole job: search, prune, fine-tune, compare."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torch import nn

from agents import AGENTS
from amc.costs import Budget
from amc.data import DataRoles, roles_of_pair
from amc.errors import ConfigurationError, ModelError
from amc.pipeline.compare import check_baselines, compare
from amc.pipeline.deliver import Delivered, Workshop
from amc.pipeline.kept_run import KeptRun, fingerprint
from amc.pipeline.prepare import prepare, train_dense
from amc.pipeline.recorder import Recorder
from amc.pipeline.result import CompressionResult
from amc.pipeline.search import SearchConfig, check_search, default_budget, search_policy
from amc.pipeline.summary import policy_record, summarise
from amc.pipeline.task import Task
from amc.problem import PruningProblem
from amc.pruning import PruningConfig
from amc.runtime.call import evaluation_mode
from amc.runtime.plain import plain_network
from amc.storage.architecture import describe
from amc.storage.source import ModelSource
from amc.training import FineTuneConfig, TrainConfig, is_chance
from amc.utils.options import Chosen, spell
from envs.rewards import Reward

if TYPE_CHECKING:
    from amc.data.adapters import DataLike


def compress(
    model: nn.Module,
    data: DataRoles | Sequence[DataLike] | None,
    budget: Budget | None = None,
    *,
    agent: Chosen = "ddpg",
    episodes: int = 100,
    reward: Chosen | Reward = "accuracy",
    allocation_mode: Literal["clip", "project"] = "clip",
    first_images: int | None = None,
    pruning: PruningConfig | None = None,
    finetune: FineTuneConfig | Callable[[nn.Module], object] | None = None,
    evaluate: Callable[[nn.Module], float] | None = None,
    train: TrainConfig | None = None,
    compare_with: Sequence[str] = (),
    example_input: Any | None = None,
    source: ModelSource | None = None,
    seed: int = 0,
    device: str = "auto",
    dtype: str = "auto",
    out: str | os.PathLike[str] | None = None,
    recorder: Recorder | None = None,
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
        agent: Name of the agent that looks for the allocation.
        episodes: Candidates that the agent may try.
        reward: Name of the reward, or a function of an `envs.rewards.Outcome`.
        allocation_mode: `"clip"` or `"project"`; see `envs.pruning_env`.
        first_images: Images of the search split that score a candidate first; it sees the rest only while it can still
            be the best. None scores every candidate on all.
        pruning: What is removed and how the rest makes up for it.
        finetune: Settings of the fine-tuning, or a function that fine-tunes a network in place.
        evaluate: Figure of merit of a network, higher is better, in place of the accuracy on `data`: for tasks other
            than classification. It serves the search AND the report, so let it read no test data. Networks come on
            `device`, in their own number format, and their batch norms are not re-estimated for it.
        train: Settings to train the dense network with first; None if it is trained.
        compare_with: Names of agents that do the same job under the same rules.
        example_input: One input of the network (a tensor with a batch axis, a tuple, or a mapping of keyword
            arguments); an image of the data if not given.
        source: How the dense network can be built again; its class if not given.
        seed: Seed of everything random.
        device: `"auto"`, `"cpu"` or `"cuda"`, where `model` ends too. `"auto"` is CUDA where there is one; with an
            `evaluate` or a `finetune` of your own it is where `model` is.
        dtype: Number format in which candidates are scored: `"auto"` (bfloat16 where the device gains from it),
            `"float32"` or `"bfloat16"`.
        out: A folder that keeps the run while it works, and holds what `CompressionResult.save` writes at its end. If
            the run ends early, by an error of `evaluate` or by a kill, the same call carries on from what was done.
        recorder: Hears what happens, in place of `out`; see `amc.pipeline.recorder`.

    Returns:
        The smaller network, on the CPU; its policy and the figures.

    Raises:
        AmcError: If anything given cannot be used; nothing has been written or trained then.
    """
    if out is not None and recorder is not None:
        raise ConfigurationError("a run is kept in a folder (out) or told to a recorder of your own; give one of them")
    _check_options(model, budget, pruning, finetune, train)
    model = plain_network(model)
    _check_judge(data, evaluate)
    _check_heard(data, evaluate, finetune, first_images)
    roles = data if data is None or isinstance(data, DataRoles) else roles_of_pair(data, seed=seed)
    _check_reward(roles, evaluate, reward)
    settings = finetune if isinstance(finetune, FineTuneConfig) else FineTuneConfig()
    search = SearchConfig(agent, episodes, reward, allocation_mode, seed, first_images)
    task = prepare(
        model,
        roles,
        budget or default_budget(reward),
        pruning=pruning or PruningConfig(),
        finetune=settings,
        evaluate=evaluate,
        tune=finetune if callable(finetune) else None,
        train=train,
        example_input=example_input,
        seed=seed,
        device=device,
        dtype=dtype,
    )
    check_search(task.problem, search)
    check_baselines(compare_with)
    for name in compare_with:
        check_search(task.problem, replace(search, agent=name))
    work = partial(_carry_out, task, search, train, compare_with, source or ModelSource.of(model))
    with evaluation_mode(task.model):
        if out is None:
            return work(recorder or Recorder())
        judge = {"evaluate": evaluate, "finetune": finetune, "train": train, "compare_with": compare_with}
        rules = {"budget": task.problem.budget, "pruning": task.pruning, **asdict(search), **judge}
        with KeptRun(Path(out), fingerprint(model, roles, train is None, **rules)) as kept:
            result = work(kept)
            result.write(Path(out))
        return result


def _check_options(model: object, budget: object, pruning: object, finetune: object, train: object) -> None:
    """Refuses arguments of other types, which would be taken for the defaults or fail late."""
    if not isinstance(model, nn.Module):
        raise ModelError(f"the model must be a torch.nn.Module, such as amc.create_model('resnet20'), not {model!r}")
    for name, given, wanted, example in (
        ("budget", budget, Budget, "Budget(flops=0.5)"),
        ("pruning", pruning, PruningConfig, "PruningConfig(round_to=8)"),
        ("finetune", finetune, FineTuneConfig, "FineTuneConfig(epochs=3), or a function of the network"),
        ("train", train, TrainConfig, "TrainConfig(epochs=30)"),
    ):
        is_function = name == "finetune" and callable(given) and not isinstance(given, type)
        if not (given is None or isinstance(given, wanted) or is_function):
            raise ConfigurationError(f"{name} must be an amc.{wanted.__name__}, such as amc.{example}, not {given!r}")


def _check_judge(data: object, evaluate: object) -> None:
    """Refuses a search that nothing judges."""
    if data is None and evaluate is None:
        raise ConfigurationError("without data your own evaluate must be given: compress(..., evaluate=...)")


def _check_reward(data: DataRoles | None, evaluate: object, reward: object) -> None:
    """Refuses a reward that is made of other figures than the task has."""
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


def _check_heard(data: object, evaluate: object, finetune: object, first_images: object) -> None:
    """Refuses arguments that nothing would hear."""
    if data is None and isinstance(finetune, FineTuneConfig) and finetune.epochs:
        raise ConfigurationError("fine-tuning by settings needs data; give finetune=a function of the network instead")
    if evaluate is not None and first_images is not None:
        raise ConfigurationError("an evaluate of your own sees all that it needs at once; leave first_images out")


def _carry_out(
    task: Task,
    search: SearchConfig,
    train: TrainConfig | None,
    compare_with: Sequence[str],
    source: ModelSource,
    recorder: Recorder,
) -> CompressionResult:
    """Does what `compress` has checked: everything from here on takes time and is recorded."""
    recorder.begin()
    if train is not None:
        train_dense(task, train, recorder)
    dense = task.test(task.model)
    if task.data is not None and task.measure is None and is_chance(dense, task.data):
        recorder.say(
            f"the dense network is right on {dense:.2f} % of the test images, no more than chance: is it trained?"
        )
    workshop = Workshop(task, recorder)
    outcome = search_policy(task.problem, workshop.evaluator, search, recorder)
    recorder.on_policy(policy_record(task.problem, outcome.best.allocation))
    delivered = workshop.deliver(str(search.agent), outcome.best.allocation, recorder)
    names = [name for name in compare_with if spell(AGENTS, name) != search.agent]
    baselines = compare(workshop, _problem_of_baselines(task.problem, delivered), names, search, recorder)
    return CompressionResult(
        model=delivered.model,
        allocation=delivered.allocation,
        summary=summarise(task, source, search, outcome, dense, delivered, baselines),
        episodes=outcome.episodes,
        baselines=baselines,
        problem=task.problem,
        architecture=describe(task.model, task.structure, delivered.kept, source, example_input=task.example_input),
    )


def _problem_of_baselines(problem: PruningProblem, delivered: Delivered) -> PruningProblem:
    """Returns the problem that baselines solve: the same, or without a budget that of reaching the FLOPs delivered."""
    return problem if problem.limit is not None else replace(problem, budget=Budget(flops=delivered.costs["flops"]))
