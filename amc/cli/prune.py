"""`amc prune`: turn a policy into a network."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from os.path import realpath  # unlike Path.resolve, it takes links that lead in circles
from pathlib import Path
from typing import TYPE_CHECKING

import jsonargparse

from amc.cli.choices_help import option_of
from amc.cli.command import Command
from amc.cli.consent import WORDS, trusted
from amc.cli.options import (
    add_output_options,
    add_run_options,
    options_of_run,
    run_config,
)
from amc.cli.pruned_model import settle_model
from amc.cli.resume import check_started_from, input_of, output_of
from amc.cli.words import find_run, option_value
from amc.costs import Budget
from amc.errors import BudgetError, ConfigurationError
from amc.pipeline.config import BudgetConfig, RunConfig, budget_of
from amc.storage.names import CONFIG, POLICY

if TYPE_CHECKING:
    from amc.problem import PruningProblem
    from amc.structure import Allocation

_UNUSED = (
    "agent", "episodes", "reward", "first_images", "allocation_mode", "schedule", "compare", "budget",
    "finetune", "dtype", "untrained", "features",
)  # fmt: skip


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Adds the options that say which network, which policy, and where to write."""
    parser.add_argument("run", nargs="?", type=str | None, metavar="RUN", help="Folder with the policy of a search.")
    add_run_options(parser, hide=_UNUSED)
    option_of(parser, "policy").help = "A policy.json in another place."
    add_output_options(parser, "Folder for the pruned network; unset: a new one in runs/.")


def defaults(words: Sequence[str]) -> list[str]:
    """Takes the options of the policy's run.

    If a model or a file with options is named, those of the policy's run are not used.
    """
    if any(option_value(words, name) is not None for name in ("--config", "--model")):
        return []
    policy = option_value(words, "--policy")
    folder = find_run(words) if policy is None else Path(policy).parent
    return [] if folder is None else options_of_run(folder)


def run(options: jsonargparse.Namespace) -> None:
    """Prunes, refits, measures and saves.

    Raises:
        AmcError: If an option, the policy, the data, the network or the folder cannot be used.
    """
    from amc.cli.setup import check_network, display, load_roles, open_task
    from amc.pipeline.deliver import Workshop
    from amc.pipeline.measuring import measure_on_test
    from amc.pipeline.prepare import train_dense
    from amc.pipeline.settling import settled
    from amc.pipeline.summary import policy_record
    from amc.problem.edited_policy import check_costs, checked_policy
    from amc.report.files import write_network
    from amc.report.origin import trust_words
    from amc.report.run_recorder import RunRecorder
    from amc.storage.policy import read_policy

    file = _policy_file(options)
    config = settle_model(replace(run_config(options), policy=None), options[WORDS])
    check_started_from(file.parent, config, reads_network=False)
    path = output_of(options, config, Path("runs") / f"{Path(realpath(file)).parent.name}-pruned")
    shown = display(options)
    inputs = {"policy": file}
    opened = RunRecorder(
        path, config, shown, command="prune", inputs=inputs, resumed=options.resumed, mix_scores=options.mix_scores
    )
    stored = read_policy(file)
    with opened as recorder:
        untuned = replace(config, finetune=replace(config.finetune, epochs=0))
        check_network(config)
        task, source = open_task(untuned, load_roles(config.data, config.seed, shown), shown, trust=trusted(options))
        allocation = checked_policy(stored, task.problem)
        policy = policy_record(task.problem, allocation)
        if _has_budget(options, config, file):
            _check_budget(budget_of(config), task.problem, allocation, file)
        check_costs(stored, task.problem)
        with settled(recorder, task.model, task.example_input, config.device, deterministic=config.deterministic):
            if config.trains_first:
                train_dense(task, config.train, recorder)
            recorder.on_policy(policy)
            delivered = Workshop(task, recorder).deliver("policy", allocation, recorder)
            (dense,) = measure_on_test(task, recorder, "the dense network", task.model)
            print(write_network(path, task, source, delivered, dense.figure))
    print(
        f"The pruned network: {path}  (continue with: amc finetune {shlex.quote(str(path))}{trust_words(config.model)})"
    )


def _policy_file(options: jsonargparse.Namespace) -> Path:
    """Returns the policy: that of RUN, the named file, or that of the run that is resumed."""
    named = option_value(options[WORDS], "--policy")  # in a run's options, the policy is what its search started from
    if options.run is not None and named is not None:
        raise ConfigurationError("amc prune carries out one policy: give the folder of a run, or --policy FILE")
    given = named if options.run is None else str(Path(options.run) / POLICY)
    file = input_of(options, "policy", given)
    if file is None:
        raise ConfigurationError("amc prune needs a policy: give the folder of a search, or --policy FILE")
    return file


def _has_budget(options: jsonargparse.Namespace, config: RunConfig, policy: Path) -> bool:
    """Returns whether there is a budget: one was set, or the options are those of the policy's run."""
    files = [str(file) for file in options.config or ()]
    return config.budget != BudgetConfig() or str(policy.parent / CONFIG) in files


def _check_budget(budget: Budget | None, problem: PruningProblem, allocation: Allocation, file: Path) -> None:
    """Rejects a policy that costs more than the budget.

    Raises:
        BudgetError: If it does.
    """
    if budget is None:
        return
    costs, every = problem.costs_of(problem.widths(allocation)), problem.dense_costs
    # A count above this may be meant for a larger network; here it does not bound anything.
    bounds = {name: value for name, value in budget.bounds.items() if value <= every[name]}
    for metric, limit in Budget.of(bounds).limits(every).items() if bounds else ():
        cost, dense = costs[metric], every[metric]
        if cost > limit:
            raise BudgetError(
                f"{file} keeps {cost:,} {metric} ({cost / dense:.1%}), which is above the budget of {limit:,} "
                f"({limit / dense:.1%}); keep less, or scale it to the budget with: amc compress --agent "
                f"policy:file={file}, or name the network with --model to prune it without a budget"
            )


COMMAND = Command(
    add_arguments,
    run,
    defaults=defaults,
    resumes=True,
    usage="[RUN] [options]",
    description=(
        "Prunes a network as a policy.json says, and refits the layers that read the pruned ones; no fine-tuning. An\n"
        "edited policy must name every decision, agree with its pruning ratios and costs, and meet the budget of its\n"
        "run. A policy in a run's folder is carried out with the options of that run, on the dense network that it\n"
        "has trained, unless --model or --config name another."
    ),
    examples=(
        "  amc prune runs/mine\n"
        "  amc prune --policy policy.json --model resnet56 --weights FILE --data.name imagefolder --data.root DIR"
    ),
)
