"""How lists and bounds are written on the command line; YAML files may use these forms, too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from amc.errors import ConfigurationError

_OPENING, _CLOSING, _QUOTES = "[{(", "]})", "\"'"


def listed(text: str) -> tuple[str, ...]:
    """Splits a comma-separated list; commas inside brackets and quotes do not separate. `none` is an empty list."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if letter in _QUOTES and quote in ("", letter):
            quote = "" if quote else letter
        elif not quote:
            depth += (letter in _OPENING) - (letter in _CLOSING)
        if letter == "," and depth <= 0 and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    names = tuple(part.strip() for part in parts if part.strip())
    return () if names == ("none",) else names


def ratio_bounds(text: str) -> dict[str, tuple[float, float]]:
    """Reads the smallest and the largest pruning ratio by name pattern.

    Args:
        text: `"PATTERN=MIN:MAX"`, separated by commas.

    Raises:
        ConfigurationError: If it is written differently.
    """
    found = {}
    for part in listed(text):
        pattern, _, ratios = part.rpartition("=")
        try:
            smallest, largest = (float(ratio) for ratio in ratios.split(":"))
        except ValueError:
            pattern = ""
        if not pattern:
            raise ConfigurationError(
                f"pruning.bounds must be PATTERN=MIN:MAX with 0 <= MIN <= MAX <= 1, not {part!r}; "
                "for example layer1.*=0:0.5"
            )
        found[pattern] = (smallest, largest)
    return found


def layer_bits(text: str) -> dict[str, int]:
    """Reads a number of bits by name pattern.

    Args:
        text: `"PATTERN=N"`, separated by commas.

    Raises:
        ConfigurationError: If it is written differently.
    """
    found = {}
    for part in listed(text):
        pattern, _, bits = part.rpartition("=")
        if not pattern or not bits.isascii() or not bits.isdigit():
            raise ConfigurationError(f"bits must be PATTERN=N with whole numbers, not {part!r}; for example layer1.*=6")
        found[pattern] = int(bits)
    return found


def layer_decays(text: str) -> dict[str, float]:
    """Reads a weight decay by name pattern.

    Args:
        text: `"PATTERN=N"`, several with commas between them.

    Raises:
        ConfigurationError: If it is written differently.
    """
    found = {}
    for part in listed(text):
        pattern, _, decay = part.rpartition("=")
        try:
            found[pattern] = float(decay)
        except ValueError:
            pattern = ""
        if not pattern:
            raise ConfigurationError(
                f"decay_by_layer must be PATTERN=N with numbers of at least 0, not {part!r}; for example fc*=0.001"
            )
    return found


CHOICES: dict[str, tuple[str, ...]] = {
    "agent": ("agents.registry:AGENTS",),
    "agents": ("agents.registry:AGENTS",),
    "schedule": ("amc.pruning.schedules:SCHEDULES",),
    "reward": ("envs.rewards:REWARDS",),
    "reward_names": ("envs.rewards:REWARDS",),
    "features": ("envs.extra_features:EXTRA_FEATURES",),
    "pruning.criterion": ("amc.pruning.criteria.base:FILTER_CRITERIA", "amc.pruning.criteria.base:WEIGHT_CRITERIA"),
    "pruning.recovery": ("amc.pruning.recovery.registry:RECOVERIES",),
    "pruning.pattern": ("amc.pruning.weight_patterns:WEIGHT_PATTERNS",),
    "data.augment": ("amc.data.augment:AUGMENTATIONS",),
    "finetune.schedule": ("amc.training.schedule:SCHEDULES",),
    "finetune.optimizer": ("amc.training.optimizer:OPTIMIZERS",),
    "train.optimizer": ("amc.training.optimizer:OPTIMIZERS",),
    "train.schedule": ("amc.training.schedule:SCHEDULES",),
    "finetune.penalties": ("amc.training.penalties.registry:PENALTIES",),
    "train.penalties": ("amc.training.penalties.registry:PENALTIES",),
    "initialisation": ("amc.packing.sharing:INITIALISATIONS",),
}
"""The registries that an option chooses from, by its dotted name; imported only when `--help` lists the names."""

PLAIN_CHOICES: dict[str, tuple[str, ...]] = {
    "data.task": ("amc.data.tasks:TASKS",),
    "data.loss": ("amc.data.tasks:LOSSES",),
    "data.metric": ("amc.data.tasks:METRICS",),
}
"""Options that choose a name that has no options itself."""

SPELLINGS: dict[str, Callable[[str], Any]] = {
    "compare": listed,
    "features": listed,
    "pruning.exclude": listed,
    "pruning.bounds": ratio_bounds,
    "finetune.penalties": listed,
    "train.penalties": listed,
    "train.head": listed,
    "finetune.decay_by_layer": layer_decays,
    "train.decay_by_layer": layer_decays,
    "bits": layer_bits,
}
"""The function that reads an option's text, by the option's dotted name."""


def read_spellings(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns nested options, with the texts that `SPELLINGS` covers converted.

    Raises:
        ConfigurationError: If a text is malformed.
    """
    found: dict[str, Any] = {}
    for name, value in record.items():
        read = SPELLINGS.get(f"{prefix}{name}")
        if read is not None and isinstance(value, str):
            found[name] = read(value)
        elif read is None and isinstance(value, Mapping):
            found[name] = read_spellings(value, f"{prefix}{name}.")
        else:
            found[name] = value
    return found
