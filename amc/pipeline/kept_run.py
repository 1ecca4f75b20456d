"""The folder of a run started from Python, which the same call resumes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import msgspec
from torch import nn

from amc.data import DataRoles, ImageSet, StreamedImages
from amc.errors import RunFolderError
from amc.pipeline.folder_recorder import FolderRecorder
from amc.pipeline.recorder import Recorder
from amc.storage.names import LOCK, RUN
from amc.utils.counted import counted
from amc.utils.digests import digest_of_text
from amc.utils.durable_files import is_unfinished
from amc.utils.json_files import write_json
from amc.utils.plain_json import as_type, read_json
from amc.utils.progress import Progress
from amc.utils.sealed_tensors import digest_of_tensors

COMMAND = "compress in Python"
"""What `run.json` names as the command."""


class _Begun(msgspec.Struct):
    """What run.json holds about a call."""

    command: str
    call: dict[str, Any]


class KeptRun(FolderRecorder):
    """Keeps a run that was started from Python, and checks that a later call is the same."""

    def __init__(self, path: Path, call: Mapping[str, Any], shown: Recorder | None = None) -> None:
        """Takes the folder, the call's arguments (see `fingerprint`), and what shows the progress."""
        super().__init__(path)
        self._shown = shown or Recorder()
        self._call: dict[str, Any] = json.loads(json.dumps(dict(call), default=str))

    def __enter__(self) -> KeptRun:
        """Opens the folder of an earlier call, or checks that it is empty.

        Raises:
            RunFolderError: If it holds something else or the run of another call, or is in use.
        """
        try:
            if self._is_begun():
                if not (self.path / LOCK).exists():
                    self._check()  # before anything is written into the folder of something else
                self.lock()
                self._check()
                self.open()
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise RunFolderError(f"out must name a folder that can be written: {error}") from error
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Releases the folder; if there was an error, it says how to continue the run."""
        kept = f"{counted(len(self._log.episodes), 'episode')} kept in {self.path}; the same call continues from there"
        if error is not None and self._log.episodes and hasattr(error, "add_note"):
            error.add_note(kept)
        self.close()

    def stage(self, title: str, total: int = 100, unit: str = "%") -> AbstractContextManager[Progress]:
        """Shows a stage."""
        return self._shown.stage(title, total, unit)

    def say(self, line: str) -> None:
        """Shows a line."""
        self._shown.say(line)

    def begin(self) -> None:
        """Makes the folder of a new run.

        Raises:
            RunFolderError: If it cannot be written.
        """
        if self._is_open:
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.lock()
            write_json(self.path / RUN, {"command": COMMAND, "call": self._call, "files": {}, "digests": {}})
            self.open()
        except OSError as error:
            raise RunFolderError(f"out must name a folder that can be written: {error}") from error

    def _is_begun(self) -> bool:
        """Returns whether the folder has anything but what a call leaves that was killed as it began."""
        names = {entry.name for entry in self.path.iterdir()} if self.path.is_dir() else set()
        return any(name not in (LOCK, f"{LOCK}.json") and not is_unfinished(name) for name in names)

    def _check(self) -> None:
        """Rejects a folder that was not written by the same call."""
        try:
            record = as_type(read_json(self.path / RUN), _Begun)
            command, begun = record.command, record.call
        except FileNotFoundError as error:
            raise RunFolderError(
                f"out must name a new or an empty folder, or that of the same call, not {self.path}; name another"
            ) from error
        except ValueError as error:
            raise RunFolderError(f"{self.path} holds a run of another kind, or a damaged one; give another") from error
        differing = [name for name in dict.fromkeys([*begun, *self._call]) if begun.get(name) != self._call.get(name)]
        if command != COMMAND or differing:
            name = (differing or ["command"])[0]
            raise RunFolderError(
                f"the run in {self.path} was begun with {name} {begun.get(name)!r}, not {self._call.get(name)!r}; "
                "make the same call to continue it, or name another folder"
            )


def fingerprint(model: nn.Module, data: DataRoles | None, is_trained: bool, **arguments: Any) -> dict[str, Any]:
    """Returns what identifies a run, JSON-able: the same for two calls that make the same run.

    Args:
        model: The dense network; identified by its weights, or by their shapes if the run trains it first.
        data: Its data; identified by sizes, by content where it is held in memory, and by the names and sizes of files
            that stream.
        is_trained: Whether the run starts from the weights of the network, or trains it first.
        **arguments: The other arguments of the call; functions are identified by name.
    """
    tensors = model.state_dict()
    shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
    network = digest_of_tensors(tensors) if is_trained else digest_of_text(json.dumps(shapes))
    found = {**{name: _plain(value) for name, value in arguments.items()}, "network": network}
    for role in ("train", "calibration", "search", "test") if data is not None else ():
        split = getattr(data, role)
        content = {"images": split.images, "targets": split.targets} if isinstance(split, ImageSet) else {}
        digest = split.digest() if isinstance(split, StreamedImages) else digest_of_tensors(content)
        found[f"{role} data"] = [len(split), digest]
    return found


def _plain(value: Any) -> Any:
    """Returns an argument in a form that JSON can hold."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if callable(value):
        return getattr(value, "__qualname__", type(value).__qualname__)
    return value
