"""Looks at the words of a command line before they are parsed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from amc.storage.names import ARCHITECTURE, CONFIG

_SWITCHES = ("--resume", "--mix_scores", "--overwrite", "--trust", "--help", "--print_config")
"""Options that take no value."""


def find_run(words: Sequence[str]) -> Path | None:
    """Returns the first word that is a folder with a network or a run, skipping the values of options."""
    before = ["", *words]
    folders = (Path(word) for word, last in zip(words, before, strict=False) if not (_is_name(word) or _takes(last)))
    return next((path for path in folders if (path / ARCHITECTURE).is_file() or (path / CONFIG).is_file()), None)


def _is_name(word: str) -> bool:
    return word.startswith("-")


def _takes(word: str) -> bool:
    """Returns whether a word is an option whose value follows."""
    return word.startswith("--") and "=" not in word and word not in _SWITCHES


def option_value(words: Sequence[str], name: str) -> str | None:
    """Returns what a command line gives for `--name VALUE` or `--name=VALUE`, or None."""
    for word, following in zip(words, [*words, ""][1:], strict=True):
        given, separator, value = word.partition("=")
        if given == name:
            return value if separator else following
    return None
