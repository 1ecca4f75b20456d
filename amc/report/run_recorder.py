"""The recorder of the command line: a run's folder, TensorBoard, and progress for whoever watches."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from agents.protocol import EpisodeResult
from amc.errors import RunFolderError
from amc.pipeline.config import RunConfig
from amc.pipeline.recorder import Advance, Recorder
from amc.report.origin import Origin, RunInterrupted, resume_line
from amc.report.progress import ProgressDisplay
from amc.report.run_folder import DENSE, EPISODES, TENSORBOARD, RunFolder, check_free
from amc.storage.save import save_weights
from amc.utils.json_files import write_json

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter


class RunRecorder(Recorder):
    """Writes a run's folder as the run goes on, and answers from it when the run is resumed.

    The folder of a new run is made when everything has been checked; it is deleted again if the run fails before it
    has anything to keep.
    """

    def __init__(
        self,
        path: Path,
        config: RunConfig,
        display: ProgressDisplay,
        *,
        command: str,
        inputs: Mapping[str, Path] | None = None,
        resume: bool = False,
    ) -> None:
        """Opens the folder to resume, or checks that a new one may be made.

        Args:
            path: The folder.
            config: The configuration of a new run.
            display: Shows progress.
            command: The subcommand that runs.
            inputs: Files that the run starts from besides the weights, by what they are.
            resume: Whether the folder holds the beginning of this run.

        Raises:
            RunFolderError: If there is nothing to resume, the files that it started from have changed, or the folder
                is taken.
        """
        self.path, self._config, self._display, self._command = path, config, display, command
        self._inputs = dict(inputs or {})
        if config.weights:
            self._inputs["weights"] = Path(config.weights).expanduser()
        self._folder: RunFolder | None = RunFolder.open(path, command) if resume else None
        if self._folder is None:
            check_free(path)
        elif self._folder.origin is not None:
            self._folder.origin.check_files()
        self._created = False
        self._episodes = self._folder.read_episodes() if self._folder else []
        self._progress = self._folder.read_progress() if self._folder else {}
        self._writer: SummaryWriter | None = None

    @property
    def folder(self) -> RunFolder:
        """The folder; it exists once the run has begun."""
        assert self._folder is not None
        return self._folder

    def __enter__(self) -> RunRecorder:
        """Returns itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Closes the event file, deletes a folder with nothing in it but a failure, and tells how to go on.

        Raises:
            RunInterrupted: After a Ctrl-C, if there is a run to go on with.
        """
        if self._writer is not None:
            self._writer.close()
        if self._created and kind is not None and issubclass(kind, Exception):
            self.folder.discard_if_empty()
        if kind is KeyboardInterrupt and self._folder is not None:
            raise RunInterrupted(f"go on with: {resume_line(self._command, self.path)}") from error

    def begin(self) -> None:
        """Makes the folder of a new run, or tells where a resumed one stands.

        Raises:
            RunFolderError: If the folder cannot be written.
        """
        try:
            self._begin()
        except OSError as error:
            raise RunFolderError(f"the run's folder must be writable: {error}") from error

    def _begin(self) -> None:
        if self._folder is None:
            origin = Origin.of(self._command, self._inputs)
            self._folder, self._created = RunFolder.create(self.path, self._config, origin), True
            self.say(f"run folder: {self.path}")
        else:
            if (self.path / EPISODES).is_file():  # what is behind a line that was cut off is measured again
                self._folder.write_episodes(self._episodes)
            done = f": {len(self._episodes)} episodes are done" if self._episodes else ""
            self.say(f"going on with {self.path}{done}")
        self._writer = _summary_writer(self.path / TENSORBOARD)

    def stage(self, title: str, total: int, unit: str) -> AbstractContextManager[Advance]:
        """Shows a stage."""
        return self._display.stage(title, total, unit)

    def say(self, line: str) -> None:
        """Prints a line."""
        self._display.say(line)

    def recorded_episodes(self) -> Sequence[EpisodeResult]:
        """Returns the episodes that the folder has."""
        return tuple(self._episodes)

    def on_episode(self, result: EpisodeResult) -> None:
        """Writes a new episode; forgets recorded ones from where the search took another way."""
        done = result.episode
        if done < len(self._episodes):
            if self._episodes[done].allocation.key() == result.allocation.key():
                return
            del self._episodes[done:]
            self.folder.write_episodes(self._episodes)
        self._episodes.append(result)
        self.folder.append_episode(result)
        self._scalars(
            "search", done, {"reward": result.reward, "accuracy": result.score.accuracy, "flops": result.flops}
        )

    def on_epoch(self, network: str, epoch: int, figures: Mapping[str, float]) -> None:
        """Adds an epoch's figures to the curves."""
        self._scalars(f"training/{network}", epoch, {name: v for name, v in figures.items() if name != "epoch"})

    def on_dense(self, model: nn.Module) -> None:
        """Writes the dense network's weights, so that other commands can start from them."""
        save_weights(self.path / DENSE, model)

    def on_policy(self, record: Mapping[str, Any]) -> None:
        """Writes the policy as soon as it is known."""
        write_json(self.path / "policy.json", record)

    def recall(self, name: str) -> dict[str, Any] | None:
        """Returns what was finished under a name."""
        known: dict[str, Any] | None = self._progress.get(name)
        return known

    def remember(self, name: str, record: Mapping[str, Any]) -> None:
        """Keeps a finished stage."""
        self._progress[name] = dict(record)
        self.folder.write_progress(self._progress)

    def checkpoint(self, name: str) -> Path | None:
        """Returns the file of a training's state."""
        return self.path / "checkpoints" / f"{name}.pt"

    def _scalars(self, tag: str, step: int, figures: Mapping[str, float]) -> None:
        if self._writer is None:
            return
        for name, value in figures.items():
            self._writer.add_scalar(f"{tag}/{name}", value, step)


def _summary_writer(path: Path) -> SummaryWriter:
    """Opens an event file for TensorBoard, without the notices of the packages that it loads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.utils.tensorboard.writer import SummaryWriter

        return SummaryWriter(str(path))
