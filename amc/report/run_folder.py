"""A run's folder: what a run writes as it proceeds, and reads when it is resumed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import yaml

from amc.errors import RunFolderError
from amc.pipeline.config import RunConfig, as_mapping, budget_of, with_absolute_paths
from amc.pipeline.run_files import has_results
from amc.report.origin import Origin, resume_line
from amc.storage.folder_kinds import A_RUN, kind_of
from amc.storage.names import CONFIG, ENVIRONMENT, EPISODES, LOCK, RUN, TENSORBOARD
from amc.utils.bounded_files import read_text
from amc.utils.conversion import from_mapping
from amc.utils.digests import digest_of_text
from amc.utils.durable_files import is_unfinished, write_text
from amc.utils.options import file_stem
from amc.utils.plain_yaml import MOST_BYTES, parse_yaml, read_yaml

NO_DOWNLOAD = ("--data.download", "false")
"""Added after the options of a run's folder: nothing is downloaded unless the user asks for it."""
_LOCKS = {LOCK, f"{LOCK}.json"}
_BEGINNING = {CONFIG, RUN, ENVIRONMENT, TENSORBOARD, *_LOCKS}
"""The files that every run starts with; a folder with nothing else can be discarded without loss."""


class RunFolder:
    """Reads and writes the files of one run.

    Attributes:
        path: The folder.
        config: The resolved configuration of the run.
        origin: How the run began; None if an earlier version made the folder.
    """

    def __init__(self, path: Path, config: RunConfig, origin: Origin | None = None) -> None:
        """Wraps an existing folder; see `create` and `open`."""
        self.path, self.config, self.origin = path, config, origin

    @classmethod
    def create(cls, path: Path, config: RunConfig, origin: Origin) -> RunFolder:
        """Makes a new folder, parents included, and writes what the run starts from.

        Raises:
            RunFolderError: If the folder is not empty, or cannot be written.
        """
        check_free(path)
        config = with_absolute_paths(config)
        try:
            path.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(path / TENSORBOARD, ignore_errors=True)  # from a start that failed at once
            (path / ENVIRONMENT).unlink(missing_ok=True)
            text = yaml.safe_dump(as_mapping(config), sort_keys=False)
            # First: a folder with options must also have its command.
            replace(origin, config_digest=digest_of_text(text)).write(path)
            write_text(path / CONFIG, text)
        except OSError as error:
            raise RunFolderError(f"the output folder must be writable: {error}; choose another --out") from error
        return cls(path, config, origin)

    @classmethod
    def open(cls, path: Path, command: str) -> RunFolder:
        """Opens the folder of an earlier run, to resume it.

        Args:
            path: The folder.
            command: The subcommand that resumes it.

        Raises:
            RunFolderError: If there is no run in it, or another command's.
            ConfigurationError: If its configuration was edited into something invalid.
        """
        file = path / CONFIG
        if not file.is_file():
            remedy = "give the folder that --out named"
            if (path / RUN).is_file() and not has_results(path):
                remedy = "it was stopped before it had results: start it again, without --resume"
            raise RunFolderError(f"{path} must hold a run, but has no {CONFIG}; {remedy}")
        origin = Origin.read(path)
        _check_command(path, origin, command)
        try:
            text = read_text(file, MOST_BYTES)
            _check_digest(file, text, origin)
            record = parse_yaml(text)
        except (OSError, ValueError) as error:
            raise RunFolderError(f"{file} must be readable YAML: {error}") from error
        if not isinstance(record, dict):
            raise RunFolderError(f"{file} must hold the run's options by name; it holds {record!r}")
        return cls(path, from_mapping(RunConfig, record), origin)

    @property
    def words(self) -> list[str]:
        """The words of a command line that give the options of the run."""
        return ["--config", str(self.path / CONFIG), *NO_DOWNLOAD]

    def discard_if_empty(self) -> None:
        """Deletes the folder if it holds only what every run starts with: for a run that failed at once."""
        if _names(self.path) <= _BEGINNING:
            shutil.rmtree(self.path, ignore_errors=True)


def check_free(path: Path) -> None:
    """Checks that a folder may be used for a new run.

    Raises:
        RunFolderError: If it holds a run, or anything else.
    """
    names = _names(path)
    if names <= _LOCKS or (RUN in names and names <= _BEGINNING):  # without run.json, the others are the user's
        return
    if (kind := kind_of(path)) not in (None, A_RUN):
        raise RunFolderError(f"{path} holds {kind}; give another folder with --out")
    if CONFIG in names or RUN in names:
        origin = Origin.read(path)
        remedy = "continue it with --resume"
        if origin is not None:
            remedy = f"continue with: {resume_line(origin.command, path, _model_of(path))}"
        raise RunFolderError(f"{path} holds a run already; {remedy}, or give another folder with --out")
    raise RunFolderError(f"the output folder must be new or empty, and {path} is not; give another one with --out")


def _names(path: Path) -> set[str]:
    """Returns the names in a folder, without leftovers of killed writers; none if there is no folder.

    Raises:
        RunFolderError: If the path is no folder, or cannot be read.
    """
    try:
        return {entry.name for entry in path.iterdir() if not is_unfinished(entry.name)}
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise RunFolderError(f"the output folder must be writable: {error}; give another --out") from error


def _check_digest(file: Path, text: str, origin: Origin | None) -> None:
    """Rejects options that have changed since the run started: even a truncated file may be valid YAML."""
    if origin is not None and origin.config_digest not in ("", digest_of_text(text)):
        remedy = "put the old one back, or start afresh with another --out"
        if not has_results(file.parent):
            remedy = "the run has no results yet: start it again, without --resume"
        raise RunFolderError(f"{file} must be as the run was started with, but is damaged or was edited; {remedy}")


def _check_command(path: Path, origin: Origin | None, command: str) -> None:
    """Rejects a folder that another command, or an unknown one, has made."""
    if origin is not None and origin.command != command:
        raise RunFolderError(
            f"{path} was made by amc {origin.command}, and amc {command} cannot continue it; "
            f"continue with: {resume_line(origin.command, path, _model_of(path))}"
        )
    if origin is None and not (path / EPISODES).is_file():
        raise RunFolderError(f"{path} must say which command made it, but has no {RUN}; start again with another --out")


def _model_of(path: Path) -> str:
    """Returns the model named by the options in a folder; empty if they cannot be read."""
    try:
        return str(read_yaml(path / CONFIG)["model"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def fresh_path(base: Path) -> Path:
    """Returns `base`, or the first of `base-2`, `base-3`, ... that does not exist."""
    number, path = 1, base
    while path.exists():
        number += 1
        path = base.with_name(f"{base.name}-{number}")
    return path


def default_path(config: RunConfig) -> Path:
    """Returns a new folder named after the run: `runs/MODEL-DATA-AGENT-BUDGET-seedN`."""
    budget = budget_of(config)
    bound = "_".join(f"{name}{value:g}" for name, value in budget.bounds.items()) if budget else f"by_{config.reward}"
    model = Path(config.model).name if Path(config.model).is_dir() else config.model
    parts = (model, config.data.name, str(config.agent), bound, f"seed{config.seed}")
    return fresh_path(Path("runs") / "-".join(map(file_stem, parts)))
