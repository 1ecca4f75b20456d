"""Which of the files of a folder hold the training images, and which the test images."""

from __future__ import annotations

import re
from pathlib import Path

from amc.data.sources.source_options import SourceOptions
from amc.errors import DataError

_TRAIN = frozenset({"train", "training"})
_TEST = frozenset({"test", "testing"})
_VALIDATION = frozenset({"val", "valid", "validation"})
_COPIES = ("cache-", "tmp", ".")
"""How names of files begin that `datasets` or a system leave beside the data."""

SplitFiles = tuple[tuple[Path, ...], tuple[Path, ...]]
"""Files of training images and of test images, each sorted by name; without the latter the former are split."""


def data_folder(options: SourceOptions) -> Path:
    """Returns the folder of a data set.

    Raises:
        DataError: If it is not given, or does not exist.
    """
    if options.root is None:
        raise DataError(f"data set {options.name} needs a folder; set data.root")
    if not options.root.is_dir():
        raise DataError(f"the data folder must exist: no folder at {options.root}; check data.root")
    return options.root


def split_files(root: Path, suffixes: tuple[str, ...]) -> SplitFiles:
    """Finds the files of both splits: in folders `train` and `test`, or by such a word in the names of the files.

    They are looked for in the folder, then in a folder `data` within. Where there is no test split, `val` or
    `validation` serves as one. Files whose names have no such word, and no others beside them, are one split.

    Args:
        root: The folder.
        suffixes: Of the files; the first that any file has is the one.

    Raises:
        DataError: If there are none, or some belong to no split.
    """
    try:
        for suffix in suffixes:
            for folder in (root, root / "data"):
                found = _in_folders(folder, suffix) or _by_name(_files(folder, suffix))
                if found is not None:
                    return found
    except OSError as error:
        raise DataError(f"cannot read the data folder {root}: {error.strerror}; check data.root") from error
    wanted = " or ".join(f"*{suffix}" for suffix in suffixes)
    raise DataError(
        f"{root} must hold files {wanted}: in folders train and test (or val), or named by their split, as "
        f"name-train-000000{suffixes[0]} is, or all of one split; it holds none"
    )


def _in_folders(folder: Path, suffix: str) -> SplitFiles | None:
    """Finds the files in folders named by their split; None if no such folder has any."""
    inner = sorted(entry for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []
    splits = [
        [file for entry in inner if entry.name.lower() in words for file in _files(entry, suffix)]
        for words in (_TRAIN, _TEST, _VALIDATION)
    ]
    return _chosen(folder, *splits) if any(splits) else None


def _by_name(files: list[Path]) -> SplitFiles | None:
    """Sorts files by the word for a split in their names; None if there are no files."""
    words = [frozenset(re.split(r"[^a-z]+", file.name.lower())) for file in files]
    splits = [
        [file for file, found in zip(files, words, strict=True) if found & kind]
        for kind in (_TRAIN, _TEST, _VALIDATION)
    ]
    named = [file for split in splits for file in split]
    if not named:
        return (tuple(files), ()) if files else None
    for file in files:
        if named.count(file) != 1:
            raise DataError(
                f"the name of every data file must have one of the words train, test and val, as those of others here "
                f"have, and that of {file} has {'none' if file not in named else 'several'}; rename or remove it"
            )
    return _chosen(files[0].parent, *splits)


def _chosen(folder: Path, train: list[Path], test: list[Path], validation: list[Path]) -> SplitFiles:
    if not train:
        raise DataError(f"{folder} has files for the test alone; it must have some for training, in a folder train")
    return tuple(train), tuple(test or validation)


def _files(folder: Path, suffix: str) -> list[Path]:
    """Lists the ordinary files of a folder that have a suffix, sorted by name.

    Raises:
        DataError: If one is a link that leads nowhere: without it the data set would be smaller than it seems.
    """
    if not folder.is_dir():
        return []
    named = [entry for entry in folder.iterdir() if entry.suffix.lower() == suffix]
    found = sorted(entry for entry in named if not entry.name.startswith(_COPIES))
    for entry in found:
        if entry.is_symlink() and not entry.exists():
            raise DataError(f"data files must exist, and {entry} is a link that leads nowhere; remove it, or fetch it")
    return [entry for entry in found if entry.is_file()]
