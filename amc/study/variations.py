"""Variations of one study: pruning methods that differ in a few options, under the same rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from amc.errors import ConfigurationError
from amc.pipeline.config import RunConfig, as_mapping
from amc.utils.conversion import from_mapping
from amc.utils.options import file_stem


@dataclass(frozen=True)
class Variation:
    """One method.

    Attributes:
        name: Its name in the file, which also names the folder of its study.
        config: The common options with its own in place. Its agent is the one that plays.
    """

    name: str
    config: RunConfig

    def folder(self, seed: int) -> str:
        """Returns the name of the folder of its study with a seed."""
        return f"{file_stem(self.name)}-seed{seed}"

    def seeded(self, seed: int) -> RunConfig:
        """Returns its options with another seed for data, tables and trainings."""
        return replace(self.config, seed=seed)


def variations_of(base: RunConfig, record: Mapping[str, Any]) -> list[Variation]:
    """Returns the variations that a file describes.

    Args:
        base: The options that they share.
        record: For each name the options that differ, nested as in a configuration file.

    Raises:
        ConfigurationError: If an option does not exist, or two names would share a folder.
    """
    found = []
    for name, differing in record.items():
        if not isinstance(differing, Mapping):
            raise ConfigurationError(
                f"the variation {name!r} must hold options, such as agent: lamp, not {differing!r}"
            )
        try:
            config = from_mapping(RunConfig, _merged({**as_mapping(base), "agent": "uniform"}, differing))
        except ConfigurationError as error:
            raise ConfigurationError(f"the variation {name!r}: {error}") from error
        found.append(Variation(str(name), config))
    if not found:
        raise ConfigurationError("a file of variations must hold one at least: a name, and the options that differ")
    if len({variation.folder(0) for variation in found}) < len(found):
        raise ConfigurationError("the names of variations must differ in letters and digits: each has a folder")
    return found


def _merged(base: Mapping[str, Any], differing: Mapping[str, Any]) -> dict[str, Any]:
    """Returns nested options with some replaced; an unknown one is kept, and rejected where it is read."""
    result = dict(base)
    for name, value in differing.items():
        old = result.get(name)
        if isinstance(old, Mapping) and isinstance(value, Mapping) and name != "bounds":
            value = _merged(old, value)
        result[name] = value
    return result
