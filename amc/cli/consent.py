"""Whose code is run: the command line may name code, a file needs `--trust` to do so."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonargparse

from amc.errors import ConsentError

WORDS = "words"
"""Among the parsed options: what the user wrote, to tell it from what files say."""

_TRUST = "--trust"
_DOWNLOAD = "--data.download"
_REFERENCE = re.compile(r"(?<![\w.])(?!(?:torchvision|timm):)[A-Za-z_][\w.]*:[A-Za-z_]\w*(?![\w.]*=)")
"""`package.module:attribute` anywhere in a text; `NAME:OPTION=VALUE` is none."""
_PATHS = ("config", "weights", "out", "run", "policy", "json", "transfer", "root", WORDS)
"""Options whose text is no choice by name."""


def add_trust_option(parser: jsonargparse.ArgumentParser) -> None:
    """Adds `--trust`."""
    parser.add_argument(
        _TRUST,
        action="store_true",
        help="Import and run the code that a run's files or --config name (package.module:attribute), the current "
        "folder included, and fetch the data that --config asks for. Only for files from people you trust; what the "
        "command line itself names needs no --trust.",
    )


def trusted(options: jsonargparse.Namespace) -> bool:
    """Returns whether the command line itself says `--trust`; a file cannot."""
    return _TRUST in options[WORDS]


def check_consent(file: Path, record: Mapping[str, Any], words: Sequence[str]) -> None:
    """Checks that the code that options in a file name is named by the user too, or that the user trusts the file.

    Args:
        file: The file, for messages.
        record: What it holds, before anything is made of it.
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
    """Checks that a download that options in a file ask for is asked for on the command line too.

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
            f"{file} asks for a download, which is not begun unless you ask for it: give {_DOWNLOAD} true yourself"
        )


def _references(value: Any, skipped: Sequence[str] = _PATHS) -> Iterator[str]:
    """Yields what may name code in nested options; paths stand at the top, and the folder of the data one below."""
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
