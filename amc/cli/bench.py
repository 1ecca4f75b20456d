"""`amc bench`: how fast the search is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

import jsonargparse

from amc.cli.command import Command
from amc.cli.options import add_run_options, run_config
from amc.cli.spelling import listed
from amc.errors import ConfigurationError, RunFolderError

if TYPE_CHECKING:
    from amc.bench import BenchConfig
    from amc.pipeline.config import RunConfig

_UNUSED = ("schedule", "compare", "finetune", "train", "train_first", "untrained", "policy")
_EPISODES = 20
_CURVE_IMAGES = 1000


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Adds the options of a search, and how it is measured."""
    add_run_options(parser, hide=_UNUSED)
    parser.set_defaults(episodes=_EPISODES)  # a run's would take long
    add = parser.add_argument
    add("--rounds", metavar="N", type=int, default=3, help="How often search and reference take turns.")
    add(
        "--reference_episodes",
        metavar="N",
        type=int,
        default=1,
        help="Candidates that the reference procedure scores a round; 0 for none.",
    )
    add(
        "--reference_rows",
        metavar="N",
        type=int,
        default=30_000,
        help="Positions that the reference samples in a layer.",
    )
    add(
        "--curve",
        metavar="NAMES",
        type=str | None,
        default=None,
        help="Time these networks instead, comma-separated, with random weights and images.",
    )
    add("--json", metavar="FILE", type=str | None, default=None, help="File for the figures as JSON.")


def run(options: jsonargparse.Namespace) -> None:
    """Measures and prints.

    Raises:
        AmcError: If an option, the data or the network cannot be used.
    """
    from amc.utils.json_files import write_json

    config = run_config(options)
    _rules(options)  # rejects wrong options before work starts
    file = Path(options.json) if options.json else None
    with _naming_the_file():  # before hours of measuring
        if file is not None:
            _check_writable(file)
    figures = _curve(config, options) if options.curve else _speed(config, options)
    with _naming_the_file():
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)  # if it was deleted meanwhile, the figures are not lost
            write_json(file, figures)


@contextmanager
def _naming_the_file() -> Iterator[None]:
    """Turns the system's errors into one about the option."""
    try:
        yield
    except OSError as error:
        raise RunFolderError(f"--json must name a file that can be written: {error}") from error


def _check_writable(file: Path) -> None:
    """Checks that a file can be written, and makes its folder; the file itself is not changed.

    Raises:
        RunFolderError: If it is anything but an earlier bench's figures, which alone are replaced.
    """
    if file.is_dir():
        raise IsADirectoryError(f"{file} is a folder")
    if file.exists() and not _is_of_bench(file):
        raise RunFolderError(f"--json replaces nothing but figures of a bench, and {file} is none; name another file")
    file.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryFile(dir=file.parent):
        pass


def _is_of_bench(file: Path) -> bool:
    """Returns whether a file is empty, or has what a bench writes."""
    from amc.utils.plain_json import read_json

    try:
        record = read_json(file) if file.stat().st_size else {"curve": []}
    except (OSError, ValueError):
        return False
    return isinstance(record, dict) and not {"curve", "episodes_per_second"}.isdisjoint(record)


def _rules(options: jsonargparse.Namespace) -> BenchConfig:
    from amc.bench import BenchConfig

    return BenchConfig(options.rounds, options.reference_episodes, options.reference_rows)


def _speed(config: RunConfig, options: jsonargparse.Namespace) -> dict[str, Any]:
    """Measures one network on its data."""
    from amc.bench import measure_speed, speed_table
    from amc.cli.setup import check_network, display, load_roles, open_task, with_new_head
    from amc.pipeline.config import budget_of
    from amc.pipeline.recorder import ShowingRecorder
    from amc.pipeline.search import check_search
    from amc.pipeline.settling import fast_threads
    from amc.report.tables import render

    shown = display(options)
    search = replace(config, policy=None).search
    check_network(config)
    data = load_roles(config.data, config.seed, shown)
    config = with_new_head(config, data, shown, trained=False)
    task, _ = open_task(config, data, shown, budget=budget_of(config))
    check_search(task.problem, search, task)
    with fast_threads(task.model, task.example_input, config.device, deterministic=config.deterministic):
        report = measure_speed(task, search, _rules(options), ShowingRecorder(shown))
    print(render(speed_table(report)), end="")
    return {"model": config.model, **report.as_dict()}


def _curve(config: RunConfig, options: jsonargparse.Namespace) -> dict[str, Any]:
    """Times networks of several sizes."""
    from dataclasses import asdict

    from amc.bench import curve_table, measure_curve
    from amc.cli.setup import display
    from amc.pipeline.config import budget_of
    from amc.pipeline.recorder import ShowingRecorder
    from amc.report.tables import render

    names, shown, points = listed(options.curve), display(options), []
    if not names:
        raise ConfigurationError(f"--curve must name networks, comma-separated, not {options.curve!r}")
    images = _CURVE_IMAGES if config.data.search_images is None else config.data.search_images
    if images < 1:
        raise ConfigurationError(f"data.search_images must be at least 1, not {images}")
    with shown.stage("curve", len(names), "networks") as advance:
        for point in measure_curve(
            names,
            config.search,
            budget=budget_of(config),
            pruning=config.pruning,
            images=images,
            rounds=options.rounds,
            device=config.device,
            dtype=config.dtype,
            deterministic=config.deterministic,
            recorder=ShowingRecorder(shown),
        ):
            points.append(point)
            advance(len(points) / len(names), point.model)
    print(render(curve_table(points)), end="")
    return {"curve": [{**asdict(point), "picoseconds": point.picoseconds} for point in points]}


COMMAND = Command(
    add_arguments,
    run,
    description=(
        "Times the search on a network and data, splits the time, and compares it with a straightforward reading of\n"
        "the reference procedure, in turns in the same process. The weights need not be trained, unless\n"
        "--first_images is given: how many images candidates then see depends on them."
    ),
    examples=(
        "  amc bench\n"
        "  amc bench --config configs/cifar10_resnet56.yaml --data.root DIR --weights FILE --episodes 60 \\\n"
        "      --json bench.json\n"
        "  amc bench --curve resnet20,resnet32,resnet44,resnet56,resnet110"
    ),
)
