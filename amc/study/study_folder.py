"""The folder of a study: its rules, and the dense network where the study trains it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from amc.errors import RunFolderError
from amc.models.weights import load_weights
from amc.pipeline.config import RunConfig, as_mapping, with_absolute_paths
from amc.pipeline.prepare import train_dense
from amc.pipeline.recorder import ShowingRecorder
from amc.pipeline.task import Task
from amc.storage.folder_kinds import A_STUDY, check_kind, kind_of
from amc.storage.names import CONFIG, DENSE, FOLDERS, LOCK, REWARDS, STUDY, WEIGHTS_DIGEST
from amc.storage.save import save_weights
from amc.study.shared_network import OF_DENSE
from amc.utils.digests import digest_of
from amc.utils.durable_files import is_unfinished, remove_unfinished, write_text
from amc.utils.folder_lock import FolderLock
from amc.utils.json_lines import Lines
from amc.utils.plain_json import as_type
from amc.utils.plain_yaml import plain_values, read_yaml
from amc.utils.progress_display import ProgressDisplay

_FREE = ("agent", "episodes", "compare", "budget")
"""Options that may differ between starts of one study: each cell records its own."""


@contextmanager
def working_in(path: Path, kind: str = A_STUDY, *, within: bool = False) -> Iterator[FolderLock]:
    """Keeps other processes out of the folder of a study; makes it, and removes it again if it stays empty.

    Args:
        path: The folder.
        kind: What the folder is for; see `amc.storage.folder_kinds`.
        within: Whether it lies in the folder of a larger study, which may have put the dense network there.

    Yields:
        The folder's lock, which may be told in what stage the work is.

    Raises:
        RunFolderError: If another process works there, or the folder holds something else, cannot be written or is
            gone in the end.
    """
    check_kind(path, kind)
    if not within:
        _check_own(path, kind)
    lock = FolderLock(path, LOCK, inner=FOLDERS)
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        remove_unfinished(path, FOLDERS)
    except OSError as error:
        raise RunFolderError(f"the folder for {kind} must be writable: {error}; choose another --out") from error
    try:
        yield lock
    except (OSError, RunFolderError) as error:
        if (loss := lock.loss()) is None:
            raise
        raise RunFolderError(f"{loss}; put it back and give the same command, or start with another --out") from error
    finally:
        lock.release()
        if path.is_dir() and {entry.name for entry in path.iterdir()} <= {LOCK}:
            shutil.rmtree(path, ignore_errors=True)


def _check_own(path: Path, kind: str) -> None:
    """Rejects a folder that holds files of the user's: its `config.yaml` would be replaced, and it may hold data.

    Every start leaves a lock, so that a folder without results, in which it was begun, is known by that.
    """
    if not path.is_dir() or kind_of(path) is not None or (path / LOCK).exists():
        return
    if (path / CONFIG).is_file():
        raise RunFolderError(
            f"{path} must be new, or hold {kind}, and has a {CONFIG} of something else, which would be replaced; give "
            "another folder with --out"
        )
    try:
        first = min((entry.name for entry in path.iterdir() if not is_unfinished(entry.name)), default=None)
    except OSError as error:
        raise RunFolderError(f"the folder for {kind} must be readable: {error}; choose another --out") from error
    if first is not None:
        raise RunFolderError(
            f"the folder for {kind} must be new or empty, or that of the same command, and {path} holds {first!r}; "
            "choose another --out"
        )


def open_folder(path: Path, config: RunConfig, rules: dict[str, Any]) -> None:
    """Makes the folder of a study, or checks that it is one under the same rules and from the same weights.

    Rules under which no figure in the folder was measured may change: all of them before the first figure, and those
    of fine-tuning before the first fine-tuned network. So the same folder can be used after a failed start.

    Args:
        path: The folder.
        config: Network, data and all that the cells have in common.
        rules: Further rules, JSON-able.

    Raises:
        RunFolderError: If the folder holds another study, the weights have changed, or it cannot be written.
    """
    given = {name: value for name, value in as_mapping(with_absolute_paths(config)).items() if name not in _FREE}
    given["data"] = {name: value for name, value in given["data"].items() if name != "workers"}
    file = path / CONFIG
    try:
        if config.weights:
            rules = {**rules, WEIGHTS_DIGEST: digest_of(Path(config.weights).expanduser())}
        record: dict[str, Any] = plain_values({**given, **rules})
        if file.is_file() and not _check_rules(path, record):
            return
        path.mkdir(parents=True, exist_ok=True)
        write_text(file, yaml.safe_dump(record, sort_keys=False))
    except (OSError, yaml.YAMLError) as error:
        raise RunFolderError(f"the folder of the study must be writable: {error}; choose another --out") from error


def _check_rules(path: Path, new: dict[str, Any]) -> bool:
    """Rejects other rules if figures were measured under the old ones.

    Returns:
        Whether the rules differ; a network that was trained under the old ones is then discarded.
    """
    old = _rules_of(path / CONFIG)
    differing = {name for name in old | new if old.get(name) != new.get(name)}
    if WEIGHTS_DIGEST not in old:
        differing.discard(WEIGHTS_DIGEST)  # from a study that an earlier version began
    figures = measured(path)
    tuned = any(figure.get("finetuned", True) is not None for figure in figures)
    if figures and differing - (set() if tuned else {"finetune"}):
        raise RunFolderError(
            f"{path} holds a study under other rules ({', '.join(sorted(differing))}; see {path / CONFIG}); "
            "choose another --out"
        )
    if not differing.isdisjoint((*OF_DENSE, WEIGHTS_DIGEST)):
        (path / DENSE).unlink(missing_ok=True)
    return bool(differing)


def _rules_of(file: Path) -> dict[str, Any]:
    """Reads the rules of a study.

    Raises:
        RunFolderError: If they are damaged.
    """
    try:
        return as_type(read_yaml(file) or {}, dict[str, Any])
    except ValueError as error:
        raise RunFolderError(f"{file} must hold the rules of a study: {error}; choose another --out") from error


def measured(path: Path) -> list[dict[str, Any]]:
    """Returns the results in the folder of a study; the comparison of rewards fine-tunes everything it measures."""
    return [line for name in (STUDY, REWARDS) for line in Lines(path / name).records]


def ensure_trained(task: Task, config: RunConfig, path: Path, display: ProgressDisplay, name: str = DENSE) -> None:
    """Trains the dense network where the configuration says so, or loads what an earlier start has trained.

    Args:
        task: The task; its network is trained in place.
        config: The configuration.
        path: The folder that keeps the weights.
        display: Shows the progress.
        name: The file of the weights.

    Raises:
        AmcError: If the training fails, or the weights do not fit.
    """
    if not config.trains_first:
        return
    file = path / name
    if file.is_file():
        load_weights(task.model, file)
        return
    train_dense(task, config.train, ShowingRecorder(display))
    save_weights(file, task.model)
