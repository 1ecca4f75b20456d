"""`amc study` of agents: on one network, or on several problems one after another."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amc.storage.names import REPORT, STUDY_CSV, STUDY_LATEX, STUDY_TABLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    import jsonargparse

    from amc.cluster import OpenExecutor
    from amc.data import DataRoles
    from amc.pipeline.config import RunConfig
    from amc.pipeline.task import Task
    from amc.study import AgentsStudy, Cell
    from amc.study.problems import Problem, StudyPlan
    from amc.utils.progress_display import ProgressDisplay


def plan_of(options: jsonargparse.Namespace) -> StudyPlan:
    """Returns what the options compare.

    Raises:
        AmcError: If no study can compare it.
    """
    from amc.study.problems import StudyPlan

    transfers = [f"{kind}:{options.transfer}" for kind in ("act", "warm")] if options.transfer else []
    plan = StudyPlan(
        agents=(*options.agents, *transfers),
        budgets=tuple(options.budgets),
        metric=options.metric,
        counts=tuple(options.counts),
        seeds=tuple(options.seeds),
        finetuned=tuple(options.finetuned),
        latency=options.latency,
    )
    plan.check()
    return plan


def check_choices(config: RunConfig, plan: StudyPlan) -> None:
    """Rejects what is wrong whatever the data are: agents, budgets, counts, seeds, the reward, and the network's name.

    Raises:
        AmcError: If there is something.
    """
    from amc.cli.setup import check_network
    from amc.pipeline.compare import check_choices as check_search_choices
    from amc.study import Variant, plan_cells
    from amc.study.cells import check_cells

    check_cells(plan_cells(list(map(Variant.parse, plan.agents)), plan.budgets, plan.counts, plan.seeds), plan.metric)
    check_search_choices(replace(config, agent="uniform", policy=None).search)
    check_network(config)


@dataclass(frozen=True)
class OpenedStudy:
    """A study whose options have been checked.

    Attributes:
        config: The options.
        folder: Its folder.
        plan: What is compared.
        cells: The searches.
        task: The network and its data.
        study: Plays the cells.
    """

    config: RunConfig
    folder: Path
    plan: StudyPlan
    cells: Sequence[Cell]
    task: Task
    study: AgentsStudy

    @staticmethod
    def of(
        config: RunConfig,
        folder: Path,
        plan: StudyPlan,
        data: DataRoles,
        shown: ProgressDisplay,
        spread: OpenExecutor | None,
    ) -> OpenedStudy:
        """Opens a study, so that whatever is wrong with it is known before anything takes time.

        Args:
            config: The options.
            folder: Its folder.
            plan: What is compared.
            data: The data.
            shown: Shows the progress.
            spread: Brings the cells to workers; None to play them in this process.

        Raises:
            AmcError: If an option, the network or the folder cannot be used.
        """
        from amc.cli.setup import open_task, with_new_head
        from amc.pipeline.recorder import ShowingRecorder
        from amc.study import AgentsStudy, StudyRules, Variant, plan_cells
        from amc.study.study_folder import open_folder

        cells = plan_cells(list(map(Variant.parse, plan.agents)), plan.budgets, plan.counts, plan.seeds)
        search = replace(config, agent="uniform", policy=None).search
        rules = StudyRules(plan.metric, search, plan.finetuned, plan.latency)
        config = with_new_head(config, data, shown)
        task, _ = open_task(config, data, shown, schedule=config.schedule)
        study = AgentsStudy(task, folder, rules, ShowingRecorder(shown), spread)
        study.check(cells)
        open_folder(folder, config, {"metric": plan.metric})
        return OpenedStudy(config, folder, plan, cells, task, study)

    def play(self, shown: ProgressDisplay, title: str = "study") -> None:
        """Plays what is left, and shows what the agents have reached so far."""
        from amc.pipeline.settling import fast_threads
        from amc.report.study_standing import standing_table
        from amc.study.environments import keep_environment
        from amc.study.study_folder import ensure_trained

        config, task, total = self.config, self.task, len(self.cells)
        wanted = [cell.key for cell in self.cells]
        with fast_threads(task.model, task.example_input, config.device, deterministic=config.deterministic):
            keep_environment(self.folder, config.device, shown.say)
            ensure_trained(task, config, self.folder, shown)
            done: list[dict[str, Any]] = []
            with shown.stage(title, total, "searches") as advance:

                def on_cell(record: dict[str, Any]) -> None:
                    done.append(record)
                    shown.show_above(standing_table(done, wanted, title))
                    note = f"{record['agent']} at {record['budget']:g}: reward {record['reward']:.4f}"
                    advance(len(done) / total, note)

                self.study.play(self.cells, on_cell, lambda share: advance((len(done) + share) / total))
        shown.show_above(None)


def play_agents(
    config: RunConfig,
    folder: Path,
    options: jsonargparse.Namespace,
    spread: OpenExecutor | None,
    shown: ProgressDisplay,
) -> str:
    """Compares agents on one network; returns the table."""
    from amc.cli.setup import load_roles
    from amc.study import agents_table

    data = load_roles(config.data, config.seed, shown)
    opened = OpenedStudy.of(config, folder, plan_of(options), data, shown, spread)
    opened.play(shown)
    write_files(folder)
    return agents_table(opened.study.lines.records)


def play_problems(
    config: RunConfig,
    folder: Path,
    options: jsonargparse.Namespace,
    spread: OpenExecutor | None,
    shown: ProgressDisplay,
) -> str:
    """Compares agents on several problems; each folder is that of a study of its own. Returns the table of all."""
    from amc.cli.study_entries import found_in, read_problems
    from amc.study.problems import keep_order
    from amc.study.problems_page import problems_table
    from amc.study.shared_network import SharedNetworks
    from amc.study.study_folder import working_in
    from amc.utils.folder_lock import refuse_links

    networks = SharedNetworks()
    problems = read_problems(config, plan_of(options), options)
    for problem in problems:
        with found_in(options.problems, f"the problem {problem.name!r}"):
            check_choices(problem.config, problem.plan)
    refuse_links(folder, (problem.folder for problem in problems))
    with ExitStack() as places:
        for problem in problems:
            places.enter_context(working_in(folder / problem.folder, within=True))
        opened = _open_all(problems, folder, shown, spread)
        keep_order(folder, problems)
        for problem, study in zip(problems, opened, strict=True):
            networks.share(study.config, study.folder)
            study.play(shown, problem.name)
            write_files(study.folder)
            _write_files_of_all(folder)
    return problems_table(folder)


def _open_all(
    problems: Sequence[Problem], folder: Path, shown: ProgressDisplay, spread: OpenExecutor | None
) -> list[OpenedStudy]:
    """Opens the studies of problems, all before the first is played; equal data is read once."""
    from amc.cli.setup import load_roles

    data: dict[Any, DataRoles] = {}
    opened = []
    for problem in problems:
        key = (problem.config.data, problem.config.seed)
        if key not in data:
            data[key] = load_roles(problem.config.data, problem.config.seed, shown)
        shown.say(f"problem {problem.name}")
        place, roles = folder / problem.folder, data[key]
        opened.append(OpenedStudy.of(problem.config, place, problem.plan, roles, shown, spread))
    return opened


def write_files(folder: Path) -> None:
    """Writes what a person looks at of one study, and what other programs read."""
    from amc.study.page import page_of_study, study_records
    from amc.study.tables import agents_csv, agents_latex, agents_table
    from amc.utils.durable_files import write_text

    records = study_records(folder)
    write_text(folder / STUDY_TABLE, agents_table(records))
    write_text(folder / STUDY_LATEX, agents_latex(records))
    write_text(folder / STUDY_CSV, agents_csv(records))
    page_of_study(folder).write(folder / REPORT)


def _write_files_of_all(folder: Path) -> None:
    """Writes the same of all problems together."""
    from amc.study.problems_page import page_of_problems, problem_records, problems_table
    from amc.study.tables import agents_csv, agents_latex
    from amc.utils.durable_files import write_text

    records = problem_records(folder)
    write_text(folder / STUDY_TABLE, problems_table(folder))
    write_text(folder / STUDY_LATEX, agents_latex(records))
    write_text(folder / STUDY_CSV, agents_csv(records))
    page_of_problems(folder).write(folder / REPORT)
