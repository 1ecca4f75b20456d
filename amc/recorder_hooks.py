"""Connects work that reports its progress with a recorder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict

from torch import nn

from amc.recorder import Recorder
from amc.training.config import FineTuneConfig
from amc.training.image_set import steps_per_epoch
from amc.training.progress import EpochRecord, TrainingHooks, TrainingProgress


@contextmanager
def share_of(recorder: Recorder, title: str) -> Iterator[Callable[[float], None]]:
    """Announces a stage, and yields the function that takes the share of it that is done, 0 to 1."""
    with recorder.stage(title, 100, "%") as advance:
        yield lambda share: advance(round(100 * share), "")


@contextmanager
def training_hooks(
    recorder: Recorder,
    network: str,
    images: int,
    config: FineTuneConfig,
    after_step: Callable[[nn.Module], object] | None = None,
) -> Iterator[TrainingHooks]:
    """Announces a training as a stage, and yields the hooks that report it.

    Args:
        recorder: Is told.
        network: Whose training it is: `"dense"`, or who chose the allocation.
        images: Number of training images.
        config: The settings of the training.
        after_step: Passed through.
    """
    steps = steps_per_epoch(images, config.batch_size)
    title = "train the dense network" if network == "dense" else f"fine-tune ({network})"
    with recorder.stage(title, steps * config.epochs, "steps") as advance:

        def on_step(progress: TrainingProgress) -> None:
            done = (progress.epoch - 1) * progress.steps + progress.step
            note = f"epoch {progress.epoch}, loss {progress.loss:.3f}, {progress.images_per_second:,.0f} images/s"
            advance(done, note)

        def on_epoch(record: EpochRecord) -> None:
            recorder.on_epoch(network, record.epoch, asdict(record))

        yield TrainingHooks(after_step=after_step, on_step=on_step, on_epoch=on_epoch)
