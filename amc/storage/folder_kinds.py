"""What a folder for output holds: neither a run nor a study nor a training writes into that of another."""

from __future__ import annotations

from pathlib import Path

from amc.errors import RunFolderError
from amc.storage.names import (
    ARCHITECTURE,
    CHECKPOINT,
    EPISODES,
    METHODS_TABLE,
    POLICY,
    PROBLEMS,
    PROGRESS,
    REWARDS,
    RUN,
    STUDY,
    TRAINING,
)

A_RUN = "a run"
A_STUDY = "a study of one network"
A_STUDY_OF_PROBLEMS = "a study of several problems"
A_STUDY_OF_VARIATIONS = "a study of variations"
A_TRAINING = "the training of a policy"

_SIGNS = {
    A_RUN: (RUN, ARCHITECTURE, POLICY, EPISODES, PROGRESS),
    A_STUDY: (STUDY, REWARDS),
    A_STUDY_OF_PROBLEMS: (PROBLEMS,),
    A_STUDY_OF_VARIATIONS: (METHODS_TABLE,),
    A_TRAINING: (TRAINING, CHECKPOINT),
}
"""Files that only a folder of the kind has."""


def kind_of(folder: Path) -> str | None:
    """Returns what a folder holds, or None where none of the kinds has left a file."""
    return next((kind for kind, names in _SIGNS.items() if any((folder / name).is_file() for name in names)), None)


def check_kind(folder: Path, kind: str) -> None:
    """Checks that what would be written into a folder does not replace the files of something else.

    Args:
        folder: The folder; it need not exist.
        kind: What is to be written.

    Raises:
        RunFolderError: If the folder holds something of another kind.
    """
    found = kind_of(folder)
    if found not in (None, kind):
        raise RunFolderError(f"{folder} must be new, or hold {kind}, but holds {found}; give another folder")
