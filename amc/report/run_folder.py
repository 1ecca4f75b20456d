"""A run's folder: what a run writes as it goes, and what it finds when it is resumed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from agents.protocol import EpisodeResult
from amc.errors import RunFolderError
from amc.pipeline.config import RunConfig, as_mapping, budget_of, with_absolute_paths
from amc.pipeline.episodes import RUN, episode_from_record, episode_line
from amc.report.origin import Origin, resume_line
from amc.utils.conversion import from_mapping
from amc.utils.json_files import write_json, write_text

CONFIG, EPISODES, PROGRESS, SUMMARY = "config.yaml", "episodes.jsonl", "progress.json", "summary.json"
DENSE, TENSORBOARD = "dense.safetensors", "tensorboard"


class RunFolder:
    """Reads and writes the files of one run.

    Attributes:
        path: The folder.
        config: The resolved configuration of the run.
        origin: What made the folder; None if an earlier version did.
    """

    def __init__(self, path: Path, config: RunConfig, origin: Origin | None = None) -> None:
        """Wraps a folder that exists; see `create` and `open`."""
        self.path, self.config, self.origin = path, config, origin

    @classmethod
    def create(cls, path: Path, config: RunConfig, origin: Origin) -> RunFolder:
        """Makes a new folder, parents included, and writes what the run starts from.

        Raises:
            RunFolderError: If the folder holds something already, or cannot be written.
        """
        check_free(path)
        config = with_absolute_paths(config)
        try:
            path.mkdir(parents=True, exist_ok=True)
            origin.write(path)  # first: a folder with options is one that tells its command
            (path / CONFIG).write_text(yaml.safe_dump(as_mapping(config), sort_keys=False), encoding="utf-8")
        except OSError as error:
            raise RunFolderError(f"the output folder must be writable: {error}; choose another --out") from error
        return cls(path, config, origin)

    @classmethod
    def open(cls, path: Path, command: str) -> RunFolder:
        """Opens the folder of a run that was started before, to go on with it.

        Args:
            path: The folder.
            command: The subcommand that goes on.

        Raises:
            RunFolderError: If there is no run in it, or another command's.
            ConfigurationError: If its configuration was edited into something invalid.
        """
        file = path / CONFIG
        if not file.is_file():
            raise RunFolderError(f"{path} must hold a run, but has no {CONFIG}; give the folder that --out named")
        origin = Origin.read(path)
        _check_command(path, origin, command)
        try:
            record = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise RunFolderError(f"{file} must be readable YAML: {error}") from error
        if not isinstance(record, dict):
            raise RunFolderError(f"{file} must hold the run's options by name; it holds {record!r}")
        return cls(path, from_mapping(RunConfig, record), origin)

    def discard_if_empty(self) -> None:
        """Deletes the folder if it holds what every run begins with and no more: for a run that failed at once."""
        if {entry.name for entry in self.path.iterdir()} <= {CONFIG, RUN, TENSORBOARD}:
            shutil.rmtree(self.path, ignore_errors=True)

    def read_episodes(self) -> list[EpisodeResult]:
        """Returns the episodes written so far; a last line that was cut off is left out."""
        file = self.path / EPISODES
        lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
        episodes = []
        for line in lines:
            try:
                episodes.append(episode_from_record(json.loads(line)))
            except (ValueError, KeyError, TypeError):
                break
        return episodes

    def write_episodes(self, episodes: Sequence[EpisodeResult]) -> None:
        """Replaces all episodes."""
        write_text(self.path / EPISODES, "".join(episode_line(episode) for episode in episodes))

    def append_episode(self, episode: EpisodeResult) -> None:
        """Adds an episode; it is on disk when this returns."""
        with (self.path / EPISODES).open("a", encoding="utf-8") as file:
            file.write(episode_line(episode))

    def read_progress(self) -> dict[str, Any]:
        """Returns the records of finished stages, by name.

        Raises:
            RunFolderError: If the file is damaged.
        """
        file = self.path / PROGRESS
        if not file.is_file():
            return {}
        try:
            return dict(json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise RunFolderError(
                f"{file} must list the stages that are done, and is damaged: {error}; "
                "delete it, and they are done again"
            ) from error

    def write_progress(self, records: Mapping[str, Any]) -> None:
        """Replaces the records of finished stages."""
        write_json(self.path / PROGRESS, records)


def check_free(path: Path) -> None:
    """Checks that a folder may be used for a new run.

    Raises:
        RunFolderError: If it holds a run, or anything else.
    """
    if (path / CONFIG).exists():
        origin = Origin.read(path)
        remedy = f"go on with: {resume_line(origin.command, path)}" if origin else "go on with it by --resume"
        raise RunFolderError(f"{path} holds a run already; {remedy}, or give another folder with --out")
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise RunFolderError(f"the output folder must be new or empty, and {path} is not; give another one with --out")


def _check_command(path: Path, origin: Origin | None, command: str) -> None:
    """Refuses to go on with what another command has made, or with what no search has."""
    if origin is not None and origin.command != command:
        raise RunFolderError(
            f"{path} was made by amc {origin.command}, and amc {command} cannot go on with it; "
            f"go on with: {resume_line(origin.command, path)}"
        )
    if origin is None and not (path / EPISODES).is_file():
        raise RunFolderError(f"{path} must tell which command made it, but has no {RUN}; start anew with another --out")


def fresh_path(base: Path) -> Path:
    """Returns `base`, or the first of `base-2`, `base-3`, ... that does not exist."""
    number, path = 1, base
    while path.exists():
        number += 1
        path = base.with_name(f"{base.name}-{number}")
    return path


def default_path(config: RunConfig) -> Path:
    """Returns a folder that does not exist, named after what makes the run: `runs/MODEL-DATA-AGENT-BUDGET-seedN`."""
    budget = budget_of(config)
    bound = f"{budget.metric}{budget.value:g}" if budget else f"by_{config.reward}"
    model = config.model.replace(":", ".").replace("/", ".")
    return fresh_path(Path("runs") / f"{model}-{config.data.name}-{config.agent}-{bound}-seed{config.seed}")
