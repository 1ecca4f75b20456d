"""Files with options: they are read, checked, and reduced to what a command uses."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from amc.cli.command import make_parser
from amc.cli.consent import check_consent, check_download
from amc.cli.spelling import read_spellings
from amc.errors import ConfigurationError
from amc.pipeline.config import RunConfig
from amc.storage.names import WEIGHTS_DIGEST
from amc.utils import plain_yaml
from amc.utils.conversion import from_mapping

FIELDS = frozenset(RunConfig.__dataclass_fields__)
"""The options of a run."""
_NOT_IN_FILES = {"config", "help", "print_config", "resume", "trust", "download_weights"}
"""Options that a file may not have: another file, named in it, would be read unchecked."""
_ASKED = {"resume", "trust", "mix_scores", "download_weights"}


def config_file_for(
    prog: str, path: str, options: Collection[str] = (), words: Sequence[str] = (), *, hidden: Collection[str] = ()
) -> str:
    """Checks a YAML file of options, and leaves out those that the command does not use.

    One file serves all commands: options that only another command uses are left out, with a line that names them.
    Options that no command knows are rejected.

    Args:
        prog: The command, such as `"amc study"`.
        path: The file.
        options: Names of all options of the command; jsonargparse checks those that are not a run's.
        words: The command line; code that it does not name is not run.
        hidden: Options of a run, or whole sections, that the command does not use.

    Returns:
        What to parse: the path, or the text of what is left of the file.

    Raises:
        ConsentError: If the file names code to run or a download, and the command line does not ask for it.
        ConfigurationError: If the file is missing, is not YAML, or has an unknown option or a value of the wrong type.
    """
    written = read_yaml(Path(path))
    check_consent(Path(path), written, words)  # before any of the names is looked up
    if options:  # options from a run's folder are followed by NO_DOWNLOAD
        check_download(Path(path), written, words)
    # Printed configurations hold every option; one that only the command line can give is left out if it is not given.
    record = {name: value for name, value in read_spellings(written).items() if not (name in _ASKED and value is False)}
    own = set(options) - FIELDS - _NOT_IN_FILES
    others = {name for name in record if name not in own | FIELDS and options and name in _options_of_commands()}
    try:
        from_mapping(RunConfig, {name: value for name, value in record.items() if name not in own | others})
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error
    unused = [*sorted(others), *(_dotted(record, hidden) if options else ())]
    if unused:
        print(f"{path}: {prog} does not use {', '.join(unused)}; ignored", file=sys.stderr)
    if not others:
        return path
    left = {name: value for name, value in written.items() if name not in others}
    return str(yaml.safe_dump(left, sort_keys=False))


def _dotted(record: Mapping[str, Any], hidden: Collection[str]) -> Iterator[str]:
    """Yields the hidden options that a record holds; single options of a section only if they are not the default."""
    for name in sorted(hidden):
        section, _, option = name.partition(".")
        inner = record.get(section)
        if option and isinstance(inner, Mapping):
            usual = getattr(getattr(RunConfig(), section), option)
            if inner.get(option, usual) != usual:
                yield name
        elif not option and section in record:
            yield name


@cache
def _options_of_commands() -> frozenset[str]:
    """Returns the names of all options that any command takes in a file."""
    from amc.cli.commands import COMMANDS

    names: set[str] = set()
    for entry in COMMANDS.entries():
        parser = make_parser(entry.name, COMMANDS.get(entry.name))
        if "config" in (found := {action.dest for action in parser._actions}):
            names |= found
    return frozenset(names - _NOT_IN_FILES) | {WEIGHTS_DIGEST}  # in the rules of a study, which are options otherwise


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads a YAML file that holds a mapping.

    Raises:
        ConfigurationError: If the file is missing or holds something else.
    """
    try:
        record = plain_yaml.read_yaml(path)
    except OSError as error:
        raise ConfigurationError(f"the configuration file must be a readable YAML file: {error}") from error
    except ValueError as error:
        raise ConfigurationError(f"{path} must be plain YAML: {error}") from error
    if not isinstance(record, dict):
        held = "and is empty" if record is None else f"not a {type(record).__name__}"
        raise ConfigurationError(f"{path} must hold options by name ('episodes: 300'), {held}")
    named = {str(name): value for name, value in record.items()}
    if len(named) < len(record):  # 1 and "1"
        raise ConfigurationError(f"{path} must give each name once, and gives one twice, as a number and as text")
    return named
