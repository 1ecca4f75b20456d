"""Configurations that come with the package: `--config cifar10_resnet56` in place of a path."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import amc
from amc.errors import UnknownNameError

_FOLDER = Path(amc.__file__).parents[1] / "configs"
"""Beside the package, both in a checkout and in an installation; folders of that name elsewhere are ignored."""
_OPTIONS = ("--config", "--variations")


def config_names() -> list[str]:
    """Returns the names of the configurations that come with the package."""
    return sorted(file.stem for file in _FOLDER.glob("*.yaml"))


def with_named_configs(words: Sequence[str]) -> list[str]:
    """Replaces the names of configurations by their paths; the user's own files come first.

    Args:
        words: A command line.

    Raises:
        UnknownNameError: If a word after `--config` or `--variations` is neither a path nor a name.
    """
    found, before = [], ""
    for word in words:
        option, separator, value = word.partition("=")
        if before in _OPTIONS:
            word = config_path(word)
        elif option in _OPTIONS and separator:
            word = f"{option}={config_path(value)}"
        found.append(word)
        before = word
    return found


def config_path(value: str) -> str:
    """Returns the path of a configuration given by name; other words stay as they are.

    `configs/NAME.yaml`, its path in a checkout, is a name too where there is no such file.

    Raises:
        UnknownNameError: If it is neither a path nor a name.
    """
    path = Path(value)
    if not value or path.exists():
        return value
    names = config_names()
    if path.parent == Path("configs") and path.suffix == ".yaml" and path.stem in names:
        return str(_FOLDER / path.name)
    if path.name != value or path.suffix:
        return value
    if value not in names:
        raise UnknownNameError("configuration", value, names)
    return str(_FOLDER / f"{value}.yaml")
