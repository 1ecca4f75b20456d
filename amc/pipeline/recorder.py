"""How a run reports its progress, and recalls an earlier start.

The pipeline reports to a `Recorder`. This one keeps nothing and prints nothing; `amc.report` has one that writes the
run's folder and shows progress.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from agents.protocol import EpisodeResult
from amc.data.image_set import steps_per_epoch
from amc.pipeline.environment import Environment
from amc.storage.agent_card import AgentCard
from amc.training.config import FineTuneConfig
from amc.training.defaults import default_batch_size
from amc.training.records import EpochRecord, TrainingHooks, TrainingProgress
from amc.utils.progress import Progress, Shows, silent


class Recorder:
    """Follows a run. Every method may be overridden; the defaults do nothing."""

    may_mix_scores = False
    """Whether a run may be resumed in an environment that differs from that of its recorded scores."""

    def begin(self) -> None:
        """Is called when everything is checked and the work starts."""

    def environment(self) -> Environment | None:
        """Returns the environment of an earlier start of the same run; asked for before `begin`."""
        return None

    def on_environment(self, environment: Environment) -> None:
        """Takes the environment of a new run."""

    def stage(self, title: str, total: int = 100, unit: str = "%") -> AbstractContextManager[Progress]:
        """Announces a stage of the work that takes time.

        Args:
            title: What is done, for the screen.
            total: How many units the stage has.
            unit: The unit, in the plural ("episodes").

        Returns:
            A context whose value takes the share of the stage that is done, 0 to 1, as it grows.
        """
        return contextlib.nullcontext(silent)

    def say(self, line: str) -> None:
        """Shows one line to the user."""

    def recorded_episodes(self) -> Sequence[EpisodeResult]:
        """Returns the episodes of an earlier start of the same run, in order."""
        return ()

    def on_episode(self, result: EpisodeResult) -> None:
        """Takes an episode when it ends; episodes that are replayed are reported again."""

    def of_compared(self, agent: str) -> Recorder:
        """Returns the recorder for the search of a compared agent, which may keep its episodes."""
        return ShowingRecorder(self)

    def on_epoch(self, network: str, epoch: int, figures: Mapping[str, float]) -> None:
        """Takes the figures of an epoch of (fine-)training.

        Args:
            network: Whose: `"dense"`, or the name of the agent that chose its allocation.
            epoch: Number of the epoch, from 1.
            figures: Numbers by name, such as the loss.
        """

    def on_dense(self, model: nn.Module) -> None:
        """Takes the dense network that the run has trained."""

    def on_policy(self, record: Mapping[str, Any]) -> None:
        """Takes the policy as soon as the search has found it."""

    def on_agent(self, save: Callable[[Path], None], card: AgentCard) -> None:
        """Takes what an agent has learnt once its search has ended.

        Args:
            save: Writes the agent to a file.
            card: What it was trained on.
        """

    def recall(self, name: str) -> dict[str, Any] | None:
        """Returns what an earlier start recorded under a name, or None."""
        return None

    def remember(self, name: str, record: Mapping[str, Any]) -> None:
        """Keeps a JSON-able record of a finished stage, for a later start."""

    def checkpoint(self, name: str) -> Path | None:
        """Returns the file for the state of a network's training, or None to keep none."""
        return None


class ShowingRecorder(Recorder):
    """Passes stages and lines on to something that shows them, and keeps nothing."""

    def __init__(self, shown: Shows) -> None:
        """Takes a display, or the recorder of the run that this work belongs to."""
        self._shown = shown

    def stage(self, title: str, total: int = 100, unit: str = "%") -> AbstractContextManager[Progress]:
        """Shows a stage."""
        return self._shown.stage(title, total, unit)

    def say(self, line: str) -> None:
        """Shows a line."""
        self._shown.say(line)


@contextmanager
def training_hooks(
    recorder: Recorder,
    network: str,
    images: int,
    config: FineTuneConfig,
) -> Iterator[TrainingHooks]:
    """Announces a training as a stage, and yields the hooks that report its progress.

    Args:
        recorder: Reports it.
        network: What is trained: `"dense"`, or the name of the agent that chose the allocation.
        images: Number of training images.
        config: The settings of the training.
    """
    steps = steps_per_epoch(images, config.batch_size or default_batch_size(images))
    titles = {"dense": "train the dense network", "dense-head": "train its new head"}
    title = titles.get(network) or f"fine-tune ({network})"
    with recorder.stage(title, steps * config.planned_epochs, "steps") as advance:

        def on_step(progress: TrainingProgress) -> None:
            done = (progress.epoch - 1) * progress.steps + progress.step
            note = f"epoch {progress.epoch}, loss {progress.loss:.3f}, {progress.images_per_second:,.0f} images/s"
            advance(done / (steps * config.planned_epochs), note)

        def on_epoch(record: EpochRecord) -> None:
            recorder.on_epoch(network, record.epoch, asdict(record))

        yield TrainingHooks(on_step=on_step, on_epoch=on_epoch)
