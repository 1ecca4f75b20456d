"""Problems of one study: networks, data sets and families, each compared under rules of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from amc.costs.metrics import METRICS
from amc.errors import ConfigurationError, RunFolderError, UnknownNameError
from amc.pipeline.config import RunConfig
from amc.storage.names import PROBLEMS, STUDY
from amc.study.named_options import configs_by_name, folder_of
from amc.utils.conversion import from_mapping
from amc.utils.durable_files import write_text
from amc.utils.plain_json import as_type
from amc.utils.plain_yaml import read_yaml

_PLAN = "study"
"""The entry of a problem that says what is compared on it."""


@dataclass(frozen=True)
class StudyPlan:
    """What is compared on one network.

    Attributes:
        agents: The agents, with their options.
        budgets: Shares kept of the dense cost, or counts.
        metric: What the budgets bound.
        counts: Candidates that a search may try.
        seeds: Seeds of the agents.
        finetuned: Budgets at which the networks are fine-tuned too.
        latency: Whether the networks are timed.
    """

    agents: tuple[str, ...]
    budgets: tuple[float, ...] = (0.5,)
    metric: str = "flops"
    counts: tuple[int, ...] = (100,)
    seeds: tuple[int, ...] = (0, 1, 2)
    finetuned: tuple[float, ...] = ()
    latency: bool = False

    def check(self) -> None:
        """Rejects what no study can compare.

        Raises:
            UnknownNameError: If there is no such metric.
            ConfigurationError: If a list is empty, a count is below 1, or a budget of `finetuned` is not played.
        """
        if self.metric not in METRICS:
            raise UnknownNameError("metric", self.metric, METRICS.names())
        if not self.agents or not self.budgets or not self.seeds or min(self.counts, default=0) < 1:
            raise ConfigurationError(
                "--agents, --budgets, --seeds and --counts must each name something, counts above 0"
            )
        for budget in self.finetuned:
            if budget not in self.budgets:
                raise ConfigurationError(
                    f"--finetuned must be among --budgets {list(self.budgets)}, which {budget:g} is not"
                )


@dataclass(frozen=True)
class Problem:
    """One network with its data, family and budgets.

    Attributes:
        name: Its name in the file, which also names its folder.
        config: The common options with its own in place.
        plan: What is compared on it.
    """

    name: str
    config: RunConfig
    plan: StudyPlan

    @property
    def folder(self) -> str:
        """The name of its folder, which is that of a study of its own."""
        return folder_of(self.name)


def problems_of(base: RunConfig, plan: StudyPlan, record: Mapping[str, Any]) -> list[Problem]:
    """Returns the problems that a file describes.

    Args:
        base: The options that they share.
        plan: What is compared where a problem does not say so itself.
        record: For each name the options that differ, and under `study` what differs of the plan.

    Raises:
        ConfigurationError: If an option does not exist, a list is empty, or two names would share a folder.
    """
    plans, options = {}, {}
    for name, differing in record.items():
        options[name] = differing
        if isinstance(differing, Mapping):
            options[name] = {key: value for key, value in differing.items() if key != _PLAN}
            plans[str(name)] = _plan(str(name), plan, differing.get(_PLAN, {}))
    configs = configs_by_name("problem", base, options)
    return [Problem(name, config, plans[name]) for name, config in configs.items()]


def keep_order(folder: Path, problems: Sequence[Problem]) -> None:
    """Writes down which problems a folder has, in their order; those of earlier commands stay."""
    known = dict(problem_folders(folder)) if (folder / PROBLEMS).is_file() else {}
    names = dict.fromkeys([*known, *(problem.name for problem in problems)])
    write_text(folder / PROBLEMS, yaml.safe_dump(list(names)))


def problem_folders(folder: Path) -> list[tuple[str, Path]]:
    """Returns the name and the folder of every problem of a study, in their order.

    Raises:
        RunFolderError: If the list is damaged.
    """
    file = folder / PROBLEMS
    try:
        names = as_type(read_yaml(file), list[str])
        return [(name, folder / folder_of(name)) for name in names]
    except (OSError, ValueError, ConfigurationError) as error:
        raise RunFolderError(f"{file} must list the problems of a study: {error}") from error


def played_folders(folder: Path) -> list[tuple[str, Path]]:
    """Returns the problems of a study that have cells which were played."""
    return [(name, place) for name, place in problem_folders(folder) if (place / STUDY).is_file()]


def _plan(name: str, common: StudyPlan, differing: Any) -> StudyPlan:
    """Returns the plan of a problem."""
    if not isinstance(differing, Mapping):
        allowed = ", ".join(field.name for field in fields(StudyPlan))
        raise ConfigurationError(f"the problem {name!r}: {_PLAN} must hold some of {allowed}, not {differing!r}")
    try:
        plan = from_mapping(StudyPlan, {**asdict(common), **differing})
        plan.check()
    except ConfigurationError as error:
        raise ConfigurationError(f"the problem {name!r}, {_PLAN}: {error}") from error
    return plan
