"""The folder of a study: its rules, and the dense network where the study trains it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import yaml

from amc.config import RunConfig, as_mapping, with_absolute_paths
from amc.errors import RunFolderError
from amc.models.weights import load_weights
from amc.preparation import train_dense
from amc.recorder import Advance, Recorder
from amc.report.progress import ProgressDisplay
from amc.report.run_folder import CONFIG, DENSE
from amc.save import save_weights
from amc.task import Task

_FREE = ("agent", "agent_options", "episodes", "compare", "budget")
"""Options that may differ between starts of one study: the cells say them themselves."""


def open_folder(path: Path, config: RunConfig, rules: dict[str, Any]) -> None:
    """Makes the folder of a study, or checks that it is one under the same rules.

    Args:
        path: The folder.
        config: Network, data and all that the cells have in common.
        rules: Further rules, JSON-able.

    Raises:
        RunFolderError: If the folder holds another study, or cannot be written.
    """
    record = {name: value for name, value in as_mapping(with_absolute_paths(config)).items() if name not in _FREE}
    text = yaml.safe_dump(_plain({**record, **rules}), sort_keys=False)
    file = path / CONFIG
    if file.is_file():
        if file.read_text(encoding="utf-8") != text:
            raise RunFolderError(f"{path} holds a study under other rules (see {file}); choose another --out")
        return
    try:
        path.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RunFolderError(f"the folder of the study must be writable: {error}; choose another --out") from error


def ensure_trained(task: Task, config: RunConfig, path: Path, display: ProgressDisplay) -> None:
    """Trains the dense network where the configuration says so, or loads what an earlier start has trained.

    Raises:
        AmcError: If the training fails, or the weights do not fit.
    """
    if not config.trains_first:
        return
    file = path / DENSE
    if file.is_file():
        load_weights(task.model, file)
        return
    train_dense(task, config.train, _Shown(display))
    save_weights(file, task.model)


class _Shown(Recorder):
    """Shows the stages and keeps nothing."""

    def __init__(self, display: ProgressDisplay) -> None:
        self._display = display

    def stage(self, title: str, total: int, unit: str) -> AbstractContextManager[Advance]:
        return self._display.stage(title, total, unit)


def _plain(value: Any) -> Any:
    """Returns nested values with lists in place of tuples, as YAML reads them back."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
