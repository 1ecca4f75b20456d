"""Training and fine-tuning, as callers see them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from amc.data.splits import DataRoles
from amc.runtime.device import DeviceLike
from amc.training.config import FineTuneConfig, TrainConfig
from amc.training.defaults import fitted
from amc.training.records import TrainingHooks, TrainingResult
from amc.training.terms import Term
from amc.training.trainer import carry_out
from amc.training.work import ONE, Processes, Work


def fine_tune(
    model: nn.Module,
    data: DataRoles,
    config: FineTuneConfig | None = None,
    *,
    teacher: nn.Module | None = None,
    seed: int = 0,
    device: DeviceLike = "auto",
    hooks: TrainingHooks | None = None,
    terms: Sequence[Term] = (),
    checkpoint: Path | None = None,
    first_epoch: int = 0,
    schedule_epochs: int | None = None,
    processes: Processes = ONE,
) -> TrainingResult:
    """Trains a network further, in place, on `data.train`; `data.test` is never read.

    The same seed, settings and device give the same network, whether or not the training was interrupted, provided that
    the device is deterministic (CUDA is so only on request). The order of the images, augmentation (also that of the
    user's data set) and dropout depend only on the seed. The global random state is left as it was.

    Args:
        model: The network; afterwards it is on the device and in evaluation mode.
        data: The training split, and the search split that scores the epochs.
        config: The settings; the defaults of `FineTuneConfig` if not given.
        teacher: The dense network whose outputs and features are distilled; without it only the labels are used.
        seed: Seed of all randomness.
        device: `"auto"`, `"cpu"`, `"cuda"`.
        hooks: What to call during the training.
        terms: Terms to add to the objective of the settings.
        checkpoint: A file that the state is written to after every epoch; the training continues from it if it exists.
        first_epoch: Where the first epoch is in the learning rate schedule, from 0.
        schedule_epochs: Epochs of that schedule; those of the settings if None.
        processes: The processes that share the work, each with a part of every batch; see `amc.training.distributed`.

    Raises:
        CheckpointError: If the checkpoint cannot be read or belongs to other settings.
        ModelError: If nothing is trainable, or a training from scratch diverges in its first epoch. If it diverges
            later, or a fine-tuning does, it ends with the best epoch and a warning.
    """
    config = fitted(config or FineTuneConfig(), model, data)
    work = Work(model, data, config, teacher, seed, device, terms, first_epoch, schedule_epochs)
    processes.check(work)
    with processes.sharing(work) as collectives:
        return carry_out(work, collectives, hooks, checkpoint)


def train_model(
    model: nn.Module,
    data: DataRoles,
    config: TrainConfig | None = None,
    *,
    seed: int = 0,
    device: DeviceLike = "auto",
    hooks: TrainingHooks | None = None,
    checkpoint: Path | None = None,
    schedule_epochs: int | None = None,
    processes: Processes = ONE,
) -> TrainingResult:
    """Trains a network from its present weights, in place; see `fine_tune`, which differs only in its defaults."""
    options = config or TrainConfig()
    return fine_tune(
        model,
        data,
        options,
        seed=seed,
        device=device,
        hooks=hooks,
        checkpoint=checkpoint,
        schedule_epochs=schedule_epochs,
        processes=processes,
    )
