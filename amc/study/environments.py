"""What a study was played on: the environment of its first start, and of each later start in another one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from amc.errors import ConfigurationError, RunFolderError
from amc.pipeline.environment import Environment
from amc.runtime.device import resolve_device
from amc.storage.names import ENVIRONMENT, LATER_ENVIRONMENTS
from amc.study.study_folder import measured
from amc.utils.conversion import from_mapping
from amc.utils.counted import counted
from amc.utils.json_lines import Lines, read_lines

_REMEDY = "remove it to continue"


@dataclass(frozen=True)
class LaterEnvironment:
    """Another environment that a study was continued in.

    Attributes:
        after: Lines of results that the study had by then.
        environment: Where the next were played.
    """

    after: int
    environment: Environment


def keep_environment(folder: Path, device: str, say: Callable[[str], None]) -> None:
    """Writes down what a study is played on: at its start, and again where it is continued on something else.

    Args:
        folder: Its folder.
        device: The device that was asked for.
        say: Is told how this environment differs from that of the beginning, if it does.

    Raises:
        RunFolderError: If a file cannot be read or written.
    """
    here, file = Environment.here(resolve_device(device), torch.get_num_threads()), folder / ENVIRONMENT
    done = len(measured(folder))
    try:
        if not done:
            (folder / LATER_ENVIRONMENTS).unlink(missing_ok=True)
            here.write(folder)
        if not file.exists():  # it was begun by an earlier version, nobody knows where
            return
        begun = Environment.read(folder)
    except (OSError, ValueError, ConfigurationError) as error:
        raise RunFolderError(f"{file} must say what the study was begun on: {error}; {_REMEDY}") from error
    later = later_environments(folder)
    if (later[-1].environment if later else begun).differences(here):
        _add(folder, LaterEnvironment(done, here))
    if differing := begun.differences(here):
        say(f"the study was begun with {'; '.join(differing)}: scores may differ in their last digits")


def later_environments(folder: Path) -> list[LaterEnvironment]:
    """Reads in which other environments a study was continued, in their order.

    Raises:
        RunFolderError: If the file cannot be read, or holds something else.
    """
    file = folder / LATER_ENVIRONMENTS
    try:
        return [from_mapping(LaterEnvironment, record) for record in read_lines(file).records]
    except (OSError, ValueError, ConfigurationError) as error:
        raise RunFolderError(f"{file} must say what the study was continued on: {error}; {_REMEDY}") from error


def played_on(folder: Path) -> list[str]:
    """Describes what a study was played on, in sentences; what is not known is left out."""
    try:
        begun, later = Environment.read(folder), later_environments(folder)
    except (OSError, ValueError, ConfigurationError, RunFolderError):
        return []
    versions = ", ".join(f"{name} {version}" for name, version in begun.versions.items())
    on = f", {begun.processor}" if begun.processor else ""
    words = [f"Begun on: device {begun.device}{on}, threads {begun.threads}.", f"Versions: {versions}."]
    for each in later:
        differing = "; ".join(begun.differences(each.environment))
        where = f"elsewhere; the study was begun with {differing}" if differing else "where the study was begun"
        words.append(f"Continued after {counted(each.after, 'result')} {where}.")
    return words


def _add(folder: Path, later: LaterEnvironment) -> None:
    """Appends one line.

    Raises:
        RunFolderError: If it cannot be written.
    """
    try:
        Lines(folder / LATER_ENVIRONMENTS).add(asdict(later))
    except OSError as error:
        raise RunFolderError(f"{folder / LATER_ENVIRONMENTS} must be writable: {error}") from error
