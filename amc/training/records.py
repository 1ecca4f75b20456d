"""What a training reports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isnan
from typing import Any


@dataclass(frozen=True)
class TrainingProgress:
    """Where training stands.

    Attributes:
        epoch: The current epoch, from 1.
        epochs: Total number of epochs.
        step: Steps done in this epoch.
        steps: Steps per epoch.
        loss: Mean loss of this epoch so far.
        learning_rate: Of the last step.
        images_per_second: Training throughput of this epoch so far.
        seconds_left: Estimate for the rest of the training, without scoring.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    learning_rate: float
    images_per_second: float
    seconds_left: float


@dataclass(frozen=True)
class EpochRecord:
    """The figures of an epoch.

    Attributes:
        epoch: From 1; 0 is the network before its training.
        loss: Mean training loss; NaN in epoch 0.
        accuracy: Top-1 on the search split, in percent.
        cross_entropy: On the search split, in nats.
        learning_rate: Of the last step.
        seconds: Time of training, without the scoring.
        images_per_second: Training throughput.
    """

    epoch: int
    loss: float
    accuracy: float
    cross_entropy: float
    learning_rate: float
    seconds: float
    images_per_second: float

    def rank(self) -> tuple[float, float]:
        """Returns a key by which the best epoch is the largest: accuracy, then cross-entropy."""
        return self.accuracy, -self.cross_entropy


@dataclass(frozen=True)
class TrainingResult:
    """The result of a training.

    Attributes:
        epochs: One record per epoch, including those before a resume.
        kept_epoch: The epoch whose weights the network has, from 1; 0 if none ran, or none was better than the start.
        start: The network before its training; None without epochs.
    """

    epochs: tuple[EpochRecord, ...]
    kept_epoch: int
    start: EpochRecord | None = None

    @property
    def curve(self) -> list[dict[str, Any]]:
        """Epoch, mean training loss and accuracy on the search split of every epoch, the start included."""
        records = self.epochs if self.start is None else (self.start, *self.epochs)
        return [{"epoch": r.epoch, "loss": None if isnan(r.loss) else r.loss, "accuracy": r.accuracy} for r in records]

    @property
    def note(self) -> str:
        """What was kept, in words; empty if it is the last epoch."""
        if self.kept_epoch == len(self.epochs):
            return ""
        if not self.kept_epoch:
            return "the network before fine-tuning is kept: no epoch was better on the search split"
        return f"epoch {self.kept_epoch} of {len(self.epochs)} is kept, the best on the search split"

    @property
    def seconds(self) -> float:
        """Time of training in all epochs."""
        return sum(record.seconds for record in self.epochs)


@dataclass(frozen=True)
class TrainingHooks:
    """What is called during training.

    Attributes:
        on_step: Called with the progress, about a hundred times per epoch.
        on_epoch: Called with the record of every epoch.
    """

    on_step: Callable[[TrainingProgress], object] | None = None
    on_epoch: Callable[[EpochRecord], object] | None = None
