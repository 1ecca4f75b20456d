"""`amc study`: agents, budgets and seeds under the same rules; rewards against fine-tuned accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonargparse

from amc.cli.command import Command
from amc.cli.options import add_run_options, run_config
from amc.costs.metrics import METRICS
from amc.errors import ConfigurationError, UnknownNameError
from amc.storage.names import (
    CONFIG,
    METHODS_TABLE,
    REPORT,
    REWARDS_TABLE,
    STUDY_CSV,
    STUDY_LATEX,
    STUDY_TABLE,
)

if TYPE_CHECKING:
    from amc.data import DataRoles
    from amc.pipeline.config import RunConfig

_UNUSED = ("agent", "episodes", "compare", "budget", "untrained", "policy")
_AGENTS = ["ddpg", "ddpg:warm_start=[]", "random", "cem", "cmaes", "tpe", "greedy", "uniform", "erk", "shallow", "deep"]


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Adds the options that all searches share, and what is compared."""
    add_run_options(parser, hide=_UNUSED)
    add = parser.add_argument
    add("--out", metavar="DIR", type=str | None, default=None, help="Folder of the study; continues with what it has.")
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
    add("--finetuned", metavar="SHARE", nargs="+", type=float, default=[], help="Budgets at which to fine-tune too.")
    add("--latency", metavar="true|false", type=bool, default=False, help="Time the networks too, and the dense one.")
    add(
        "--transfer",
        metavar="FILE",
        type=str | None,
        default=None,
        help="Agent trained elsewhere, compared as it is and as the start of a search.",
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
        help="Compare methods instead: YAML with the options that differ by name; --seeds are those of whole runs.",
    )
    add(
        "--tabulate",
        metavar="DIR",
        nargs="+",
        type=str,
        default=[],
        help="Print the table of methods of these folders, and of all below them; nothing is measured.",
    )
    add(
        "--plot",
        metavar="DIR",
        type=str | None,
        default=None,
        help="With --tabulate: folder for figures of the accuracy over the budgets.",
    )


def run(options: jsonargparse.Namespace) -> None:
    """Runs or resumes the study, and prints its table.

    Raises:
        AmcError: If an option, the data, the network or the folder cannot be used.
    """
    from amc.report.origin import RunInterrupted
    from amc.study.study_folder import working_in
    from amc.utils.durable_files import write_text

    if options.tabulate:
        _tabulate(options)
        return
    _check(options)
    config, folder = run_config(options), Path(options.out)
    kinds = {REWARDS_TABLE: _rewards, METHODS_TABLE: _methods, STUDY_TABLE: _agents}
    kind = REWARDS_TABLE if options.rewards else METHODS_TABLE if options.variations else STUDY_TABLE
    try:
        with working_in(folder):
            table = kinds[kind](config, folder, options)
            write_text(folder / kind, table)
            if kind == STUDY_TABLE:
                _write_report(folder)
    except KeyboardInterrupt as stop:
        if not (folder / CONFIG).is_file():
            raise
        raise RunInterrupted(f"the same command continues {folder}") from stop
    print(table, end="")
    if kind == STUDY_TABLE:
        from amc.cli.setup import display

        display(options).say(f"the report: {folder / REPORT}")


def _tabulate(options: jsonargparse.Namespace) -> None:
    """Prints the table of methods, and draws them over the budgets."""
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
        raise ConfigurationError("--plot draws accuracy over budgets, and there is one budget alone; leave it out")


def _check(options: jsonargparse.Namespace) -> None:
    """Rejects options that no study can have."""
    if options.out is None:
        raise ConfigurationError("a study needs a folder: give --out DIR")
    if options.metric not in METRICS:
        raise UnknownNameError("metric", options.metric, METRICS.names())
    if not options.agents or not options.budgets or not options.seeds or min(options.counts, default=0) < 1:
        raise ConfigurationError("--agents, --budgets, --seeds and --counts must each name something, counts above 0")
    for budget in options.finetuned:
        if budget not in options.budgets:
            raise ConfigurationError(f"--finetuned must be among --budgets {options.budgets}, which {budget:g} is not")
    if options.rewards < 0 or options.rewards == 1:
        raise ConfigurationError(f"--rewards must be at least 2 allocations, not {options.rewards}")


def _agents(config: RunConfig, folder: Path, options: jsonargparse.Namespace) -> str:
    """Compares agents."""
    from amc.cli.setup import display, load_roles

    transfers = [f"{kind}:{options.transfer}" for kind in ("act", "warm")] if options.transfer else []
    data = load_roles(config.data, config.seed, display(options))
    return _play(config, folder, options, data, options.agents + transfers)


def _methods(config: RunConfig, folder: Path, options: jsonargparse.Namespace) -> str:
    """Compares methods: a study of its own for each, and for each seed."""
    from amc.cli.study_variations import play_variations
    from amc.study.study_folder import working_in

    def play(own: RunConfig, place: Path, data: DataRoles, agent: str) -> None:
        with working_in(place):
            _play(own, place, options, data, [agent])

    return play_variations(config, folder, options, play)


def _play(
    config: RunConfig, folder: Path, options: jsonargparse.Namespace, data: DataRoles, agents: Sequence[str]
) -> str:
    """Plays the cells of some agents."""
    from amc.cli.setup import display, open_task, with_new_head
    from amc.pipeline.recorder import ShowingRecorder
    from amc.pipeline.settling import fast_threads
    from amc.study import AgentsStudy, StudyRules, Variant, agents_table, plan
    from amc.study.study_folder import ensure_trained, open_folder

    shown = display(options)
    cells = plan(list(map(Variant.parse, agents)), options.budgets, options.counts, options.seeds)
    search = replace(config, agent="uniform", policy=None).search
    rules = StudyRules(options.metric, search, tuple(options.finetuned), options.latency)
    config = with_new_head(config, data, shown)
    task, _ = open_task(config, data, shown, schedule=config.schedule)
    study = AgentsStudy(task, folder, rules, ShowingRecorder(shown))
    study.check(cells)
    open_folder(folder, config, {"metric": options.metric})
    with fast_threads(task.model, task.example_input, config.device, deterministic=config.deterministic):
        ensure_trained(task, config, folder, shown)
        done = count(1)
        with shown.stage("study", len(cells), "searches") as advance:

            def on_cell(record: dict[str, Any]) -> None:
                note = f"{record['agent']} at {record['budget']:g}: reward {record['reward']:.4f}"
                advance(next(done) / len(cells), note)

            study.play(cells, on_cell)
    return agents_table(study.lines.records)


def _write_report(folder: Path) -> None:
    """Writes what a person looks at, and what other programs read."""
    from amc.study.page import page_of_study, study_records
    from amc.study.tables import agents_csv, agents_latex
    from amc.utils.durable_files import write_text

    records = study_records(folder)
    write_text(folder / STUDY_LATEX, agents_latex(records))
    write_text(folder / STUDY_CSV, agents_csv(records))
    page_of_study(folder).write(folder / REPORT)


def _rewards(config: RunConfig, folder: Path, options: jsonargparse.Namespace) -> str:
    """Compares rewards."""
    from amc.cli.setup import display, load_roles, open_task, with_new_head
    from amc.costs import Budget
    from amc.pipeline.recorder import ShowingRecorder
    from amc.pipeline.settling import fast_threads
    from amc.study import allocations_to_compare, measure_rewards, rewards_table
    from amc.study.study_folder import ensure_trained, open_folder

    shown, budget = display(options), Budget(**{options.metric: options.budgets[0]})
    data = load_roles(config.data, config.seed, shown)
    config = with_new_head(config, data, shown)
    task, _ = open_task(config, data, shown, budget=budget, schedule=config.schedule)
    allocations = allocations_to_compare(task, options.rewards, config.seed)
    open_folder(folder, config, {"metric": options.metric})
    with fast_threads(task.model, task.example_input, config.device, deterministic=config.deterministic):
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
        "Compares agents over budgets, numbers of candidates and seeds on one network, all by the same rules; or,\n"
        "with --rewards, compares the rewards with what fine-tuned networks reach; or, with --variations, compares\n"
        "methods of pruning. A study that was killed, or is to have more cells, continues from what its folder has."
    ),
    examples=(
        "  amc study --out studies/digits --agents ddpg random uniform --counts 30\n"
        "  amc study --out studies/r20 --config configs/cifar10_resnet20.yaml --data.root DIR --weights FILE \\\n"
        "      --budgets 0.7 0.5 0.3 --counts 100 300 --seeds 0 1 2 --finetuned 0.5\n"
        "  amc study --out studies/ablation --agents ddpg 'ddpg:warm_start=[]' 'ddpg:critic=step' ddpg:preset=paper\n"
        "  amc study --out studies/rewards --rewards 30 --budgets 0.5 --finetune.epochs 2\n"
        "  amc study --out studies/methods --variations configs/methods_filter.yaml --budgets 0.5 --finetuned 0.5\n"
        "  amc study --tabulate studies/methods"
    ),
)
