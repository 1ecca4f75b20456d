"""The origin of a run's folder: the command, and the files that it started from."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from amc.errors import RunFolderError
from amc.models import is_own_code
from amc.storage.names import RUN
from amc.utils.bounded_files import DamagedFileError
from amc.utils.digests import digest_of
from amc.utils.json_files import write_json
from amc.utils.plain_json import as_type, read_json

_COMMAND = re.compile(r"[A-Za-z ]{1,40}")


Stamp = tuple[int, int, int]
"""Changes when a file is written: its time, size and number."""


def stamp_of(path: Path) -> Stamp | None:
    """Returns a file's stamp; None if there is no file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


class RunInterrupted(KeyboardInterrupt):
    """A Ctrl-C after a run has begun; the message says how to continue."""


@dataclass(frozen=True)
class Origin:
    """How a run began, apart from its options.

    Attributes:
        command: The subcommand that created the folder.
        files: Absolute paths of the files that the run starts from, by what they are: `"weights"`, `"policy"`,
            `"network"`.
        digests: SHA-256 of each file, by the same names.
        config_digest: SHA-256 of `config.yaml`; empty in a folder of an earlier version.
    """

    command: str
    files: Mapping[str, str] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    config_digest: str = ""

    @staticmethod
    def of(command: str, files: Mapping[str, Path]) -> Origin:
        """Returns the origin of a run that starts now.

        Raises:
            OSError: If a file cannot be read.
        """
        paths = {name: path.absolute() for name, path in files.items()}
        return Origin(
            command,
            {name: str(path) for name, path in paths.items()},
            {name: digest_of(p) for name, p in paths.items()},
        )

    @staticmethod
    def of_unchanged(command: str, files: Mapping[str, Path], stamps: Mapping[str, Stamp | None]) -> Origin:
        """Returns the origin of a run that has read its files since their stamps were taken.

        Raises:
            OSError: If a file cannot be read.
            RunFolderError: If one was written in the meantime: the digest would be of what was not read.
        """
        origin = Origin.of(command, files)
        for name, path in files.items():
            if stamp_of(path) != stamps.get(name):
                raise RunFolderError(
                    f"the file of the {name} must stay as it is while a run starts from it, but {path} was written "
                    "meanwhile; start the run again, from a copy if it is written often"
                )
        return origin

    def write(self, folder: Path) -> None:
        """Writes the record into a run's folder."""
        write_json(folder / RUN, asdict(self))

    @staticmethod
    def read(folder: Path) -> Origin | None:
        """Reads what `write` wrote; None if there is nothing.

        Raises:
            RunFolderError: If the file is damaged.
        """
        file = folder / RUN
        try:
            origin = as_type(read_json(file), Origin)
            if not _COMMAND.fullmatch(origin.command):  # it is part of a line that a user may copy
                raise DamagedFileError("the command must be a name")
            return origin
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            raise RunFolderError(
                f"{file} must say how the run began, but is damaged: {error}; start again with another --out"
            ) from error

    def check_files(self, names: Iterable[str] | None = None) -> None:
        """Checks that the files have not changed since the run started.

        Args:
            names: Which files; all if None.

        Raises:
            RunFolderError: If one is missing or has changed.
        """
        for name in self.files if names is None else names:
            path = self.files[name]
            try:
                same = digest_of(Path(path)) == self.digests.get(name)
            except (OSError, ValueError) as error:  # not a valid path
                raise RunFolderError(f"the {name} that the run was started with must be readable: {error}") from error
            if not same:
                raise RunFolderError(
                    f"the {name} must be what the run was started with, but {path} has changed since; "
                    "put the old file back, or start again with another --out"
                )


def resume_line(command: str, folder: Path, model: str = "") -> str:
    """Returns the command line that resumes a run; for the user's own code it includes their consent."""
    return f"amc {command} --out {shlex.quote(str(folder))} --resume{trust_words(model)}"


def trust_words(model: str) -> str:
    """Returns the extra words that later commands on a run's folder need if its model is the user's own code."""
    return " --trust" if is_own_code(model) else ""
