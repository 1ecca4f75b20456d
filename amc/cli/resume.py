"""Resuming a run: its folder, its options, and its input files."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from os.path import realpath  # unlike Path.resolve, it takes links that lead in circles
from pathlib import Path
from typing import Any

import jsonargparse

from amc.cli.config_files import read_yaml
from amc.cli.consent import check_consent
from amc.cli.words import option_value
from amc.errors import ConfigurationError, RunFolderError
from amc.pipeline.config import RunConfig, as_mapping, with_absolute_paths
from amc.report.origin import Origin
from amc.report.run_folder import RunFolder, default_path, fresh_path
from amc.storage.names import CONFIG, DENSE, WEIGHTS
from amc.storage.written_files import check_written

_FREE = ("device", "devices", "data.download", "data.workers")
"""Options that may change when a run is resumed."""


def resumed_run(words: Sequence[str], command: str) -> RunFolder | None:
    """Opens the run that a command line resumes; None for a new run.

    Raises:
        AmcError: If the folder holds no run of this command.
    """
    out = option_value(words, "--out")
    if out is None or "--resume" not in words:
        return None
    file = Path(out) / CONFIG
    with suppress(ConfigurationError):  # from a damaged file: opening the folder gives a better message
        record = read_yaml(file)
        check_consent(file, record, words)  # before any names in the options are looked up
    return RunFolder.open(Path(out), command)


def output_of(
    options: jsonargparse.Namespace,
    config: RunConfig,
    base: Path | None = None,
    *,
    may_change: Collection[str] = (),
) -> Path:
    """Returns the folder of a run: that of `--out`, or a new one named `base` or after the run.

    Args:
        options: The options of the command, with the run that it resumes.
        config: The run's configuration.
        base: What a new folder is called.
        may_change: Names of options that may change when a run is resumed.

    Raises:
        ConfigurationError: If it is not said which run to resume, or the options differ from those it began with.
    """
    _check_resume(options)
    if options.resumed is not None:
        check_options(options.resumed, config, may_change=may_change)
    if options.out is not None:
        return Path(options.out)
    return default_path(config) if base is None else fresh_path(base)


def _check_resume(options: jsonargparse.Namespace) -> None:
    if options.resume and options.out is None:
        raise ConfigurationError("--resume needs the run's folder: give it with --out")


def input_of(options: jsonargparse.Namespace, name: str, given: str | None) -> Path | None:
    """Returns a file that a run starts from: the recorded one if it is resumed, or the given one.

    Args:
        options: The options of the command, with the run that it resumes.
        name: What the file is; see `amc.report.origin.Origin`.
        given: The file as the user named it; None to take the recorded one.

    Raises:
        ConfigurationError: If the file differs from the one that the run was started with, or there is no folder.
        RunFolderError: If the run does not record what it started from.
    """
    _check_resume(options)
    folder: RunFolder | None = options.resumed
    if folder is None:
        return None if given is None else Path(given)
    recorded = None if folder.origin is None else folder.origin.files.get(name)
    if recorded is None:
        raise RunFolderError(f"{folder.path} does not say which {name} it started from; start again with another --out")
    if given is not None and realpath(given) != realpath(recorded):
        raise ConfigurationError(
            f"the run in {folder.path} was started with the {name} {recorded}, not {given}; "
            "leave it out to continue, or start again with another --out"
        )
    return Path(recorded)


def check_options(folder: RunFolder, config: RunConfig, *, may_change: Collection[str] = ()) -> None:
    """Rejects options that differ from those that a run was started with.

    Args:
        folder: The run's folder.
        config: The options that are given now.
        may_change: Names of options that the command sets by itself.

    Raises:
        ConfigurationError: If one does; the message names the first.
    """
    started, given = (_flat(as_mapping(with_absolute_paths(each))) for each in (folder.config, config))
    for name in dict.fromkeys([*started, *given]):
        old, new = started.get(name), given.get(name)
        if old != new and name not in (*_FREE, *may_change):
            raise ConfigurationError(
                f"--{name} must stay {_words(old)} until the run in {folder.path} is done, not {_words(new)}; "
                "leave it out, or start again with another --out"
            )


def check_started_from(folder: Path, config: RunConfig | None = None, *, reads_network: bool = True) -> None:
    """Rejects a run whose weights have been replaced since: those that it started from, or those that it wrote.

    Args:
        folder: The folder of the run that a command reads.
        config: The options of the command; if it names other weights, those that the run started from are not checked.
        reads_network: Whether the command reads the network that the run wrote, rather than its policy.

    Raises:
        RunFolderError: If weights have changed.
    """
    if reads_network:
        check_written(folder, WEIGHTS)
    if config is not None and config.weights is not None and _is_same(config.weights, str(folder / DENSE)):
        check_written(folder, DENSE)
    origin = Origin.read(folder)
    recorded = None if origin is None else origin.files.get("weights")
    if origin is None or recorded is None:
        return
    is_named = config is None or (config.weights is not None and _is_same(config.weights, recorded))
    if is_named and Path(recorded).exists():
        origin.check_files(["weights"])


def _is_same(first: str, second: str) -> bool:
    return realpath(Path(first).expanduser()) == realpath(second)


def _flat(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns nested values by dotted names, as on the command line."""
    found: dict[str, Any] = {}
    for name, value in record.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found


def _words(value: Any) -> str:
    return "unset" if value is None else str(value)
