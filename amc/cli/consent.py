"""Whose code is run: the command line may name code; for a file to do so `--trust` is needed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonargparse

from amc.errors import ConsentError

WORDS = "words"
"""Among the parsed options: the words of the command line, to tell them from what files say."""

_TRUST = "--trust"
_DOWNLOAD = "--data.download"
_REFERENCE = re.compile(r"(?<![\w.])(?!(?:torchvision|timm):)[A-Za-z_][\w.]*:[A-Za-z_]\w*\b(?![\w.]*=)")
"""`package.module:attribute` anywhere in a text; `NAME:OPTION=VALUE` does not match."""
_PATHS = ("config", "weights", "out", "run", "policy", "json", "transfer", "root", WORDS)
"""Options whose text does not name a choice."""


def add_trust_option(parser: jsonargparse.ArgumentParser) -> None:
    """Adds `--trust`."""
    parser.add_argument(
        _TRUST,
        action="store_true",
        help="Import and run the code that a run's files or --config name (package.module:attribute), also from the "
        "current folder, and download the data that --config asks for. Only for files from people you trust; code that "
        "the command line itself names needs no --trust.",
    )


def trusted(options: jsonargparse.Namespace) -> bool:
    """Returns whether `--trust` was given on the command line; a file cannot give it."""
    return _TRUST in options[WORDS]


def check_consent(file: Path, record: Mapping[str, Any], words: Sequence[str]) -> None:
    """Checks that the user also names the code that a file names, or trusts the file.

    Args:
        file: The file, for messages.
        record: What it holds, not yet interpreted.
        words: The command line.

    Raises:
        ConsentError: If the file names code; nothing of it has been imported.
    """
    if _TRUST in words:
        return
    for reference in _references(record):
        if not any(reference in word for word in words):
            raise ConsentError(
                f"{file} names code, {reference!r}, which is not run unless you ask for it: "
                f"if you trust who wrote the file, give --trust, or name {reference} on the command line yourself"
            )


def check_download(file: Path, record: Mapping[str, Any], words: Sequence[str]) -> None:
    """Checks that a download in a file is also asked for on the command line.

    Args:
        file: The file, for messages.
        record: What it holds.
        words: The command line.

    Raises:
        ConsentError: If only the file asks for one.
    """
    data = record.get("data")
    asked = {_TRUST, f"{_DOWNLOAD}=true"} & {*words, *map("=".join, pairwise(words))}
    if isinstance(data, Mapping) and data.get("download") and not asked:
        raise ConsentError(
            f"{file} asks for a download, which is not started unless you ask for it: give {_DOWNLOAD} true yourself"
        )


def _references(value: Any, skipped: Sequence[str] = _PATHS) -> Iterator[str]:
    """Yields the texts in nested options that may name code, without those that are paths."""
    if isinstance(value, str):
        yield from (found[0] for found in _REFERENCE.finditer(value))
    elif isinstance(value, Mapping):
        for name, item in value.items():
            if name not in skipped:
                yield from _references(name, ())
                yield from _references(item, ("root",) if name == "data" else ())
    elif isinstance(value, Sequence):
        for item in value:
            yield from _references(item, ())
