"""`amc study`: agents, budgets and seeds under the same rules; rewards against fine-tuned accuracy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import jsonargparse

from amc.cli.cluster import add_cluster_options, cluster_of
from amc.cli.command import Command
from amc.cli.options import add_run_options, run_config
from amc.costs.metrics import METRICS
from amc.errors import ConfigurationError
from amc.storage.names import (
    CONFIG,
    METHODS_TABLE,
    PROBLEMS,
    REPORT,
    REWARDS_TABLE,
    STUDY_TABLE,
)

if TYPE_CHECKING:
    from amc.cluster import OpenExecutor
    from amc.data import DataRoles
    from amc.pipeline.config import RunConfig
    from amc.utils.progress_display import ProgressDisplay

    _Play = Callable[[RunConfig, Path, jsonargparse.Namespace, OpenExecutor | None, ProgressDisplay], str]
    """Plays a study and returns its table."""

_UNUSED = ("agent", "episodes", "compare", "budget", "untrained", "policy")
_AGENTS = ["ddpg", "ddpg:warm_start=[]", "random", "cem", "cmaes", "tpe", "greedy", "uniform", "erk", "shallow", "deep"]


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Adds the options that all searches share, and those for what is compared."""
    add_run_options(parser, hide=_UNUSED)
    add = parser.add_argument
    add("--out", metavar="DIR", type=str | None, default=None, help="Folder of the study; what is there is continued.")
    add("--agents", metavar="AGENT", nargs="+", type=str, default=_AGENTS, help="What is compared")
    add("--budgets", metavar="SHARE", nargs="+", type=float, default=[0.5], help="Shares kept of the dense cost.")
    add(
        "--metric",
        metavar="NAME",
        type=str,
        default="flops",
        help=f"What --budgets bound: {' or '.join(METRICS.names())}.",
    )
    add("--counts", metavar="N", nargs="+", type=int, default=[100], help="Candidates that a search may try.")
    add("--seeds", metavar="N", nargs="+", type=int, default=[0, 1, 2], help="Seeds of the agents.")
    add(
        "--finetuned",
        metavar="SHARE",
        nargs="+",
        type=float,
        default=[],
        help="Budgets at which networks are also fine-tuned.",
    )
    add("--latency", metavar="true|false", type=bool, default=False, help="Time the networks too, and the dense one.")
    _add_other_comparisons(parser)
    add_cluster_options(parser, "the searches of the study")


def _add_other_comparisons(parser: jsonargparse.ArgumentParser) -> None:
    """Adds the options for what is compared in place of agents on one network, and for tables of what was."""
    add = parser.add_argument
    add(
        "--transfer",
        metavar="FILE",
        type=str | None,
        default=None,
        help="Trained agent to compare, both as it is and as the start of a search.",
    )
    add(
        "--rewards",
        metavar="N",
        type=int,
        default=0,
        help="Compare rewards on N allocations instead, at the first budget.",
    )
    add(
        "--variations",
        metavar="FILE",
        type=str | None,
        default=None,
        help="Compare methods instead: YAML with the options of each, by name, or the name of one that comes with amc; "
        "--seeds are those of whole runs.",
    )
    add(
        "--problems",
        metavar="FILE",
        type=str | None,
        default=None,
        help="Compare the agents on several networks: YAML with the options that differ by name; under study, with "
        "agents, budgets, metric, counts, seeds, finetuned, latency of its own, and config for a file of options.",
    )
    add(
        "--tabulate",
        metavar="DIR",
        nargs="+",
        type=str,
        default=[],
        help="Print the table of methods from these folders and all below them; measure nothing.",
    )
    add(
        "--plot",
        metavar="DIR",
        type=str | None,
        default=None,
        help="With --tabulate: folder for plots of accuracy over budget.",
    )


def run(options: jsonargparse.Namespace) -> None:
    """Runs or resumes the study, and prints its table.

    Raises:
        AmcError: If an option, the data, the network or the folder cannot be used.
    """
    from amc.cli.setup import display
    from amc.cli.study_agents import check_choices, plan_of
    from amc.report.origin import RunInterrupted
    from amc.study.study_folder import working_in
    from amc.utils.durable_files import write_text

    if options.tabulate:
        _tabulate(options)
        return
    _check(options)
    config, folder = run_config(options), Path(options.out)
    if not (options.variations or options.problems):
        check_choices(config, plan_of(options))
    if options.rewards and config.finetune.epochs == 0:
        raise ConfigurationError(
            "rewards are compared with fine-tuned networks: --finetune.epochs must be at least 1, not 0"
        )
    file, kind, play = _kind(options)
    shown = display(options)
    try:
        with working_in(folder, kind) as lock, cluster_of(options, config) as spread:
            shown.tell(lock.tell)
            table = play(config, folder, options, spread, shown)
            write_text(folder / file, table)
    except KeyboardInterrupt as stop:
        if not (folder / CONFIG).is_file() and not (folder / PROBLEMS).is_file():
            raise
        raise RunInterrupted(f"the same command continues {folder}") from stop
    print(table, end="")
    if file == STUDY_TABLE:
        shown.say(f"the report: {folder / REPORT}")


def _kind(options: jsonargparse.Namespace) -> tuple[str, str, _Play]:
    """Returns which table the options ask for, what the folder is for then, and what makes both."""
    from amc.cli.study_agents import play_agents, play_problems
    from amc.storage.folder_kinds import A_STUDY, A_STUDY_OF_PROBLEMS, A_STUDY_OF_VARIATIONS

    if options.rewards:
        return REWARDS_TABLE, A_STUDY, _rewards
    if options.variations:
        return METHODS_TABLE, A_STUDY_OF_VARIATIONS, _methods
    if options.problems:
        return STUDY_TABLE, A_STUDY_OF_PROBLEMS, play_problems
    return STUDY_TABLE, A_STUDY, play_agents


def _tabulate(options: jsonargparse.Namespace) -> None:
    """Prints the table of methods, and plots accuracy over budget."""
    from amc.report.figures.figure import write_figures
    from amc.report.figures.of_studies import trade_off
    from amc.study.methods_table import methods_table, records_by_method, study_files

    files = study_files(map(Path, options.tabulate))
    print(methods_table(files), end="")
    if options.plot is None:
        return
    figures = [trade_off(records_by_method(files), measure) for measure in ("pruned", "finetuned")]
    written = write_figures([figure for figure in figures if figure is not None], Path(options.plot), ["png"])
    if not written:
        raise ConfigurationError("--plot draws accuracy over budget, and there is only one budget; leave it out")


def _check(options: jsonargparse.Namespace) -> None:
    """Rejects options that make no sense for a study."""
    from amc.cli.study_agents import plan_of
    from amc.cluster.cluster import check_cluster

    if options.out is None:
        raise ConfigurationError("a study needs a folder: give --out DIR")
    if sum(map(bool, (options.rewards, options.variations, options.problems))) > 1:
        raise ConfigurationError("--rewards, --variations and --problems are studies of their own; give one of them")
    plan_of(options)
    if options.rewards and options.cluster is not None:
        raise ConfigurationError("--rewards compares in one process: leave --cluster out")
    check_cluster(options.cluster, options.workers)  # before anything takes time
    if options.rewards < 0 or options.rewards == 1:
        raise ConfigurationError(f"--rewards must be at least 2 allocations, not {options.rewards}")


def _methods(
    config: RunConfig,
    folder: Path,
    options: jsonargparse.Namespace,
    spread: OpenExecutor | None,
    shown: ProgressDisplay,
) -> str:
    """Compares methods: one study for each method and seed."""
    from amc.cli.study_agents import OpenedStudy, plan_of
    from amc.cli.study_variations import play_variations
    from amc.study.study_folder import working_in

    plan = plan_of(options)

    def play(own: RunConfig, place: Path, data: DataRoles, agent: str) -> None:
        with working_in(place, within=True):
            one = replace(plan, agents=(agent,), seeds=(own.seed,))
            OpenedStudy.of(own, place, one, data, shown, spread).play(shown)

    return play_variations(config, folder, options, shown, play)


def _rewards(
    config: RunConfig,
    folder: Path,
    options: jsonargparse.Namespace,
    spread: OpenExecutor | None,
    shown: ProgressDisplay,
) -> str:
    """Compares rewards, in this process."""
    from amc.cli.setup import load_roles, open_task, with_new_head
    from amc.costs import Budget
    from amc.pipeline.recorder import ShowingRecorder
    from amc.pipeline.settling import fast_threads
    from amc.study import allocations_to_compare, measure_rewards, rewards_table
    from amc.study.environments import keep_environment
    from amc.study.study_folder import ensure_trained, open_folder

    budget = Budget.of({options.metric: options.budgets[0]})
    data = load_roles(config.data, config.seed, shown)
    config = with_new_head(config, data, shown)
    task, _ = open_task(config, data, shown, budget=budget, schedule=config.schedule)
    allocations = allocations_to_compare(task, options.rewards, config.seed)
    open_folder(folder, config, {"metric": options.metric})
    with fast_threads(task.model, task.example_input, config.device, deterministic=config.deterministic):
        keep_environment(folder, config.device, shown.say)
        ensure_trained(task, config, folder, shown)
        records = []
        with shown.stage("rewards", options.rewards, "allocations") as advance:
            for record in measure_rewards(task, folder, allocations, ShowingRecorder(shown)):
                records.append(record)
                advance(len(records) / options.rewards, f"{record['finetuned_search']:.2f} after fine-tuning")
    return rewards_table(records)


COMMAND = Command(
    add_arguments,
    run,
    usage="--out DIR [options]",
    description=(
        "Compares agents over budgets, numbers of candidates and seeds on one network, or with --problems on several,\n"
        "all by the same rules; or, with --rewards, compares rewards with what fine-tuned networks reach; or, with\n"
        "--variations, compares methods of pruning. A study that was killed, or is to have more cells, continues from\n"
        "what its folder has."
    ),
    examples=(
        "  amc study --out studies/digits --agents ddpg random uniform --counts 30\n"
        "  amc study --out studies/r20 --config configs/cifar10_resnet20.yaml --data.root DIR --weights FILE \\\n"
        "      --budgets 0.7 0.5 0.3 --counts 100 300 --seeds 0 1 2 --finetuned 0.5\n"
        "  amc study --out studies/ablation --agents ddpg 'ddpg:warm_start=[]' 'ddpg:critic=step' ddpg:preset=paper\n"
        "  amc study --out studies/rewards --rewards 30 --budgets 0.5 --finetune.epochs 2\n"
        "  amc study --out studies/both --problems problems.yaml --agents ddpg uniform\n"
        "  amc study --out studies/methods --variations configs/methods_filter.yaml --budgets 0.5 --finetuned 0.5\n"
        "  amc study --out studies/digits --cluster local --workers 8\n"
        "  amc study --tabulate studies/methods"
    ),
)
