"""Files that name the entries of a study, variations or problems, each by the options that differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amc.cli.config_files import FIELDS, read_yaml
from amc.cli.consent import WORDS, check_consent, check_download
from amc.cli.named_configs import config_path
from amc.cli.spelling import read_spellings
from amc.errors import ConfigurationError
from amc.pipeline.config import RunConfig

if TYPE_CHECKING:
    import jsonargparse

    from amc.study.problems import Problem, StudyPlan
    from amc.study.variations import Variation

_CONFIG = "config"
"""The entry of a problem that names a file with its options, as --config does."""


def read_variations(config: RunConfig, options: jsonargparse.Namespace) -> list[Variation]:
    """Reads the file of --variations.

    Raises:
        AmcError: If it cannot be read, names code without consent, or holds options that do not exist.
    """
    from amc.study.variations import variations_of

    file = Path(options.variations)
    sections = _sections(file, read_yaml(file), options)
    with found_in(file):
        return variations_of(config, sections)


def read_problems(config: RunConfig, plan: StudyPlan, options: jsonargparse.Namespace) -> list[Problem]:
    """Reads the file of --problems, and the configurations that it names.

    Raises:
        AmcError: If one cannot be read, names code without consent, or holds options that do not exist.
    """
    from amc.study.problems import problems_of

    file = Path(options.problems)
    sections = _sections(file, read_yaml(file), options)
    with found_in(file):
        return problems_of(config, plan, {name: _with_config(entry, options) for name, entry in sections.items()})


@contextmanager
def found_in(file: Path | str, entry: str = "") -> Iterator[None]:
    """Says in which file, and in which of its entries, an option is wrong.

    Args:
        file: The file.
        entry: The entry as a message names it, such as `the problem 'digits'`; none by default.

    Raises:
        ConfigurationError: In place of the one that is raised within.
    """
    try:
        yield
    except ConfigurationError as error:
        raise ConfigurationError(": ".join(filter(None, (str(file), entry, str(error))))) from error


def _sections(file: Path, written: Mapping[str, Any], options: jsonargparse.Namespace) -> dict[str, Any]:
    """Returns entries with their texts read; what code they name runs only with consent."""
    for name, differing in written.items():  # the names are the file's own, not those of options
        check_consent(file, differing if isinstance(differing, dict) else {name: differing}, options[WORDS])
        check_download(file, differing if isinstance(differing, dict) else {}, options[WORDS])
    return {
        name: read_spellings(differing) if isinstance(differing, dict) else differing
        for name, differing in written.items()
    }


def _with_config(entry: Any, options: jsonargparse.Namespace) -> Any:
    """Returns a problem with the options of the configuration that it names below its own."""
    from amc.study.named_options import merged

    if not isinstance(entry, dict) or _CONFIG not in entry:
        return entry
    file = Path(config_path(str(entry[_CONFIG])))
    (record,) = _sections(file, {"": read_yaml(file)}, options).values()
    common = {name: value for name, value in record.items() if name in FIELDS}
    return merged(common, {name: value for name, value in entry.items() if name != _CONFIG})
