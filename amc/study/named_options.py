"""Options by name: a file that says what differs from the common options, entry by entry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from amc.errors import ConfigurationError
from amc.pipeline.config import RunConfig, as_mapping
from amc.utils.conversion import from_mapping
from amc.utils.options import file_stem


def configs_by_name(what: str, base: RunConfig, record: Mapping[str, Any]) -> dict[str, RunConfig]:
    """Returns the options of every entry of a file.

    Args:
        what: What an entry is, for messages.
        base: The options that they share; its agent counts as `uniform`.
        record: For each name the options that differ, nested as in a configuration file.

    Raises:
        ConfigurationError: If there is no entry, an option does not exist, or two names would share a folder.
    """
    found: dict[str, RunConfig] = {}
    for name, differing in record.items():
        if not isinstance(differing, Mapping):
            raise ConfigurationError(f"the {what} {name!r} must hold options, such as agent: lamp, not {differing!r}")
        try:
            config = from_mapping(RunConfig, merged({**as_mapping(base), "agent": "uniform"}, differing))
        except ConfigurationError as error:
            raise ConfigurationError(f"the {what} {name!r}: {error}") from error
        found[str(name)] = config
    if not found:
        raise ConfigurationError(f"a file of {what}s must hold one at least: a name, and the options that differ")
    for name in found:
        folder_of(name)
    if len({file_stem(name).lower() for name in found}) < len(found):  # some file systems do not tell case apart
        raise ConfigurationError(
            f"the names of {what}s must differ in letters and digits, not in case alone: each has a folder"
        )
    return found


def folder_of(name: str) -> str:
    """Returns the name of an entry's folder.

    Raises:
        ConfigurationError: If a folder cannot be named after it.
    """
    stem = file_stem(name)
    if not stem.strip("."):
        raise ConfigurationError(
            f"a name must have letters or digits, as a folder is named after it; {name!r} has none"
        )
    return stem


def merged(base: Mapping[str, Any], differing: Mapping[str, Any]) -> dict[str, Any]:
    """Returns nested options with some replaced; an unknown one is kept, and rejected where it is read."""
    result = dict(base)
    for name, value in differing.items():
        old = result.get(name)
        if isinstance(old, Mapping) and isinstance(value, Mapping) and name != "bounds":
            value = merged(old, value)
        result[name] = value
    return result
