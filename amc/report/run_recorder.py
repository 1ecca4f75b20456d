"""The recorder of the command line: a run's folder, TensorBoard, and progress on the terminal."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from agents.protocol import EpisodeResult
from amc.errors import ProcessLostError, RunFolderError
from amc.pipeline.config import RunConfig
from amc.pipeline.folder_recorder import FolderRecorder
from amc.report.curves import Curves
from amc.report.origin import Origin, RunInterrupted, resume_line, stamp_of
from amc.report.run_folder import RunFolder, check_free
from amc.storage.names import LEARNING, TENSORBOARD
from amc.utils.counted import counted
from amc.utils.progress import Progress
from amc.utils.progress_display import ProgressDisplay

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter


class RunRecorder(FolderRecorder):
    """Writes a run's folder while the run proceeds, and reads it when the run is resumed.

    Make it before the run reads the files that it starts from. The folder of a new run is created after all checks; it
    is deleted if the run fails before there is anything to keep.
    """

    def __init__(
        self,
        path: Path,
        config: RunConfig,
        display: ProgressDisplay,
        *,
        command: str,
        inputs: Mapping[str, Path] | None = None,
        resumed: RunFolder | None = None,
        mix_scores: bool = False,
    ) -> None:
        """Takes the description of the run; use it as a context manager.

        Args:
            path: The folder.
            config: The configuration of a new run.
            display: Shows progress.
            command: The subcommand that runs.
            inputs: Files that the run starts from, other than the weights, by kind.
            resumed: The folder, opened, if it holds the beginning of this run.
            mix_scores: Whether it may be resumed in another environment; see `amc.pipeline.settling`.
        """
        super().__init__(path)
        self._config, self._display, self._command = config, display, command
        self._inputs, self.may_mix_scores = dict(inputs or {}), mix_scores
        files = (("weights", config.weights), ("trained agent", config.policy), ("profile", config.budget.profile))
        for name, file in files:
            if file:
                self._inputs[name] = Path(file).expanduser()
        self._stamps = {name: stamp_of(file) for name, file in self._inputs.items()}
        self._folder = resumed
        self._created = False
        self._writer: SummaryWriter | None = None
        self._best = -math.inf
        self._curves = Curves(path / TENSORBOARD / LEARNING)

    def __enter__(self) -> RunRecorder:
        """Opens the folder to resume, or checks that a new one may be created.

        Raises:
            RunFolderError: If the input files of a resumed run have changed, or the folder is not free.
        """
        try:
            if self._folder is None:
                check_free(self.path)
                if self.path.is_dir():
                    self.lock()
                return self
            if self._folder.origin is not None:
                self._folder.origin.check_files()
            self.open()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Closes the event file, deletes the folder of a run that failed at once, and says how to continue.

        Raises:
            RunInterrupted: After a Ctrl-C, if there is a run to resume.
            ProcessLostError: If one of several processes has died, with the command that continues.
            RunFolderError: If the run has failed as its folder is gone.
        """
        try:
            self._close_writer(failed=kind is not None)
        finally:
            loss = self.loss()
            self._display.tell(None)
            self.close()
        if self._created and self._folder is not None and kind is not None and issubclass(kind, Exception):
            self._folder.discard_if_empty()
        if kind is None or self._folder is None:
            return
        remedy = f"continue with: {resume_line(self._command, self.path, self._config.model)}"
        if loss is not None:
            remedy = f"{loss}; put it back and {remedy}; or start the run again"
            if issubclass(kind, OSError | RunFolderError):
                raise RunFolderError(remedy) from error
        if issubclass(kind, KeyboardInterrupt):
            raise RunInterrupted(remedy) from error
        if issubclass(kind, ProcessLostError) and self.path.is_dir():
            raise ProcessLostError(f"{error}; {remedy}") from error

    def _close_writer(self, *, failed: bool) -> None:
        """Closes the event file; after a failure, which is what is told, what happens to it is not."""
        if self._writer is not None:
            with suppress(*[OSError] if failed else []):
                self._writer.close()

    def begun(self, config: RunConfig) -> RunConfig:
        """Returns the options that the run was started with: those in the folder, or `config` for a new run."""
        return config if self._folder is None else self._folder.config

    def begin(self) -> None:
        """Creates the folder of a new run, or says how far a resumed one has got.

        Raises:
            RunFolderError: If the folder cannot be written, or another process has in the meantime taken it, or written
                a file that the run starts from.
        """
        try:
            self._begin()
        except OSError as error:
            raise RunFolderError(f"the run's folder must be writable: {error}") from error

    def _begin(self) -> None:
        if self._folder is None:
            origin = Origin.of_unchanged(self._command, self._inputs, self._stamps)
            self._created = not self.path.exists()
            self.path.mkdir(parents=True, exist_ok=True)
            self.lock()
            self._folder = RunFolder.create(self.path, self._config, origin)
            self.open()
            self.say(f"run folder: {self.path}")
        else:
            done = f": {counted(len(self._log.episodes), 'episode')} done" if self._log.episodes else ""
            self.say(f"continuing {self.path}{done}")
        self._display.tell(self.tell)
        self._writer = summary_writer(self.path / TENSORBOARD)

    def stage(self, title: str, total: int = 100, unit: str = "%") -> AbstractContextManager[Progress]:
        """Shows a stage."""
        return self._display.stage(title, total, unit)

    def say(self, line: str) -> None:
        """Prints a line."""
        self._display.say(line)

    def on_new_episode(self, result: EpisodeResult) -> None:
        """Adds an episode to the curves."""
        self._best = max(self._best, result.reward)
        figures = {"reward": result.reward, "best_reward": self._best, "accuracy": result.score.accuracy}
        self._scalars("search", result.episode, {**figures, **result.costs, "seconds": result.seconds})
        self._scalars("kept", result.episode, result.allocation.widths)
        if result.scoring_seconds is not None:
            own = max(0.0, result.seconds - result.scoring_seconds)
            self._scalars("time", result.episode, {"scoring_seconds": result.scoring_seconds, "agent_seconds": own})
        self._on_learning(result)

    def _on_learning(self, result: EpisodeResult) -> None:
        """Keeps what the agent had learnt, and adds it to the curves."""
        learning = result.learning
        if learning is None or learning.actor_loss is None:
            return
        names = list(result.allocation.widths)
        losses = {"actor_loss": learning.actor_loss, "critic_loss": learning.critic_loss}
        ratios = dict(zip(names, learning.ratios, strict=False))
        self._scalars("learning", result.episode, {name: loss for name, loss in losses.items() if loss is not None})
        self._scalars("actor_ratio", result.episode, ratios)
        timed = {"seconds": result.seconds, "scoring_seconds": result.scoring_seconds}
        self._curves.append({"episode": result.episode, **losses, **timed, "ratios": ratios})

    def on_epoch(self, network: str, epoch: int, figures: Mapping[str, float]) -> None:
        """Adds an epoch's figures to the curves."""
        self._scalars(f"training/{network}", epoch, {name: v for name, v in figures.items() if name != "epoch"})

    def _scalars(self, tag: str, step: int, figures: Mapping[str, float]) -> None:
        if self._writer is None:
            return
        for name, value in figures.items():
            self._writer.add_scalar(f"{tag}/{name}", value, step)


def summary_writer(path: Path) -> SummaryWriter:
    """Opens an event file for TensorBoard; messages of the packages that it loads are suppressed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.utils.tensorboard.writer import SummaryWriter

        return SummaryWriter(str(path))
