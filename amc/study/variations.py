"""Variations of one study: pruning methods that differ in a few options, under the same rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from amc.pipeline.config import RunConfig
from amc.study.named_options import configs_by_name
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
    """Returns the variations that a file describes; see `configs_by_name`."""
    return [Variation(name, config) for name, config in configs_by_name("variation", base, record).items()]
