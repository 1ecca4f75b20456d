"""Training and fine-tuning: one trainer for both."""

from __future__ import annotations

import copy
import math
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from amc.data.image_set import ImageSet, steps_per_epoch
from amc.data.splits import DataRoles
from amc.runtime.call import evaluation_mode, move
from amc.runtime.device import DeviceLike, autocast, resolve_device
from amc.runtime.layout import lay_out
from amc.runtime.outputs import main_output
from amc.training.checkpoint import read_checkpoint, save_checkpoint
from amc.training.config import FineTuneConfig, TrainConfig
from amc.training.defaults import fitted
from amc.training.divergence import DivergedError, finite_loss, warn_if_worse
from amc.training.evaluate import evaluate
from amc.training.features import FeatureDistillation
from amc.training.number_format import training_dtype
from amc.training.objective import Objective, objective_of
from amc.training.optimizer import optimizer_over
from amc.training.records import EpochRecord, TrainingHooks, TrainingProgress, TrainingResult
from amc.training.schedule import learning_rate
from amc.training.state_check import check_state
from amc.training.terms import Batch, Term, Training
from amc.utils.random_state import isolated_random_state, random_states, set_random_states
from amc.utils.stopping import StopRequested, deferring_stops, stop_here, stop_requested

_REPORTS = 100  # progress reports per epoch; each waits for the device


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

    Raises:
        CheckpointError: If the checkpoint cannot be read or belongs to other settings.
        ModelError: If nothing is trainable, or a training from scratch diverges in its first epoch. If it diverges
            later, or a fine-tuning does, it ends with the best epoch and a warning.
    """
    config = fitted(config or FineTuneConfig(), model, data)
    place = resolve_device(device)
    few = data.search.take(range(min(2, len(data.search)))).inputs().to(place)
    with isolated_random_state(seed), torch.enable_grad(), _ready(model, teacher, few) as channels_last:
        features = None
        if teacher is not None and config.feature_distillation > 0:
            features = FeatureDistillation(model, teacher, few)
        objective = objective_of(
            config, data.task, has_teacher=teacher is not None, features=features, others=terms, dense=teacher
        )
        trainer = _Trainer(
            model, data, config, teacher, objective, seed, place, hooks or TrainingHooks(), channels_last
        )
        trainer.place_in_schedule(first_epoch, schedule_epochs)
        with objective.attached(trainer.training(few)):
            return trainer.run(checkpoint)


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
    )


class _Trainer:
    """The state of a training."""

    def __init__(
        self,
        model: nn.Module,
        data: DataRoles,
        config: FineTuneConfig,
        teacher: nn.Module | None,
        objective: Objective,
        seed: int,
        device: torch.device,
        hooks: TrainingHooks,
        channels_last: bool,
    ) -> None:
        """Assembles the parts; the random state must already be seeded."""
        self.model, self.config, self.device, self.hooks = model, config, device, hooks
        self.channels_last = channels_last
        self.objective = objective
        self.teacher = teacher if objective.needs_teacher else None
        self.dtype = training_dtype(model, data, config, device)
        # On an accelerator the images are kept there: as uint8 they are small, and gathering them is then free.
        resident = isinstance(data.train, ImageSet) and device.type == "cuda"
        self.train = data.train.to(device) if resident and isinstance(data.train, ImageSet) else data.train
        self.search, self.task = data.search, data.task
        assert config.batch_size is not None
        assert config.learning_rate is not None
        self.batch_size, self.peak = config.batch_size, config.learning_rate
        self.steps = steps_per_epoch(len(data.train), self.batch_size)
        self.optimizer = optimizer_over(model, config)
        self.generator = torch.Generator().manual_seed(seed)
        self.first, self.total = 0, config.planned_epochs
        self.start: EpochRecord | None = None
        self.history: list[EpochRecord] = []
        self.best: dict[str, Any] | None = None
        self.unfinished: dict[str, Any] | None = None
        self.settings = {
            **asdict(config),
            "seed": seed,
            "images": len(data.train),
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "teacher": self.teacher is not None,
        }
        if config.optimizer == "sgd":
            del self.settings["optimizer"]  # as in checkpoints of earlier versions

    def training(self, example: Tensor) -> Training:
        """Returns the information for the objective's terms; `example` is a few inputs."""
        return Training(self.model, self.optimizer, self.steps, self.config.planned_epochs, len(self.train), example)

    def place_in_schedule(self, first: int, total: int | None) -> None:
        """Makes the epochs part of a longer learning rate schedule; see `fine_tune`."""
        if first or total is not None:
            self.first, self.total = first, total or self.config.planned_epochs
            self.settings |= {"first_epoch": self.first, "schedule_epochs": self.total}

    def run(self, checkpoint: Path | None) -> TrainingResult:
        """Trains the remaining epochs, and leaves the chosen weights in the network."""
        if checkpoint is not None:
            self._restore(read_checkpoint(checkpoint, self.settings))
        if self.start is None and self.config.planned_epochs > 0:
            self.start = self._before()
        has_diverged = False
        try:
            with nullcontext() if checkpoint is None else deferring_stops():
                self._epochs(checkpoint)
        except DivergedError as error:
            has_diverged = True
            self._fall_back(error)
        kept = len(self.history)
        if self.best is not None and (has_diverged or self.config.keep == "best"):
            self._take(self.best)
            kept = self.best["epoch"]
        if self.start is not None and kept > 0:
            warn_if_worse(self.start, self.history[kept - 1], len(self.search))
        return TrainingResult(tuple(self.history), kept, self.start)

    def _epochs(self, checkpoint: Path | None) -> None:
        """Trains the remaining epochs; after a signal, the state within an epoch is kept, too."""
        while len(self.history) < self.config.planned_epochs:
            try:
                record = self._epoch(len(self.history) + 1)
            except StopRequested:
                if checkpoint is not None:
                    save_checkpoint(checkpoint, self._state(), self.settings)
                raise
            self.unfinished = None
            self._remember(record)
            if checkpoint is not None:
                save_checkpoint(checkpoint, self._state(), self.settings)
            if self.hooks.on_epoch is not None:
                self.hooks.on_epoch(record)
            stop_here()

    def _fall_back(self, error: DivergedError) -> None:
        """Warns that the training ends with its best epoch; raises if a training from scratch has none.

        Raises:
            ModelError: If there is no epoch to fall back on.
        """
        if self.best is None or (self.best["epoch"] == 0 and isinstance(self.config, TrainConfig)):
            raise error
        epoch = self.best["epoch"]
        kept = f"the best epoch, {epoch}, is kept" if epoch else "the network stays as it was before"
        warnings.warn(f"{error}; {kept}", RuntimeWarning, stacklevel=2)

    def _before(self) -> EpochRecord:
        """Scores the network before its training: this is epoch 0, which may be the best."""
        score = evaluate(self.model, self.search, device=self.device, dtype=self.dtype, task=self.task)
        self.best = {"epoch": 0, **self._copied()}
        return EpochRecord(0, math.nan, score.accuracy, score.cross_entropy, 0.0, 0.0, 0.0)

    def _copied(self) -> dict[str, Any]:
        """Returns copies of the network's weights, on the CPU, and of the state of the objective's terms."""
        weights = {name: tensor.detach().cpu().clone() for name, tensor in self.model.state_dict().items()}
        return {"model": weights, "objective": copy.deepcopy(self.objective.state())}

    def _take(self, state: Mapping[str, Any]) -> None:
        """Restores weights and terms from a copy."""
        self.model.load_state_dict(state["model"])
        self.objective.restore(state["objective"])

    def _epoch(self, epoch: int) -> EpochRecord:
        """Trains one epoch and scores the network on the search split."""
        self.model.train()
        start, images_done, rate = time.perf_counter(), 0, 0.0
        loss_sum, mean_loss, skipped = torch.zeros((), device=self.device), 0.0, 0
        begin = {"generator": self.generator.get_state(), "global_generators": random_states()}
        if self.unfinished is not None:  # the same images in the same order, up to where the epoch was stopped
            now, begin, skipped = random_states(), self.unfinished["begin"], self.unfinished["steps"]
            loss_sum = self.unfinished["loss_sum"].to(self.device)
            self.generator.set_state(begin["generator"])
            set_random_states(begin["global_generators"])
        batches = self.train.batches(
            self.batch_size, device=self.device, generator=self.generator, channels_last=self.channels_last
        )
        step = 0
        for step, (images, targets) in enumerate(batches, start=1):
            done = (epoch - 1) * self.steps + step - 1
            rate = self._rate(done)
            if step <= skipped:
                if step == skipped:
                    set_random_states(now)
                continue
            loss_sum += self._step(images, targets, rate, done)
            images_done += len(targets)
            if step % max(1, self.steps // _REPORTS) == 0 or step == self.steps:
                mean_loss = finite_loss(float(loss_sum) / step, epoch, rate)
                self._report(epoch, step, mean_loss, rate, images_done / (time.perf_counter() - start))
            if stop_requested():
                self.unfinished = {"begin": begin, "steps": step, "loss_sum": loss_sum.cpu()}
                raise StopRequested
        seconds = time.perf_counter() - start
        score = evaluate(self.model, self.search, device=self.device, dtype=self.dtype, task=self.task)
        finite_loss(score.cross_entropy, epoch, rate)
        mean_loss = finite_loss(float(loss_sum) / max(1, step), epoch, rate)
        speed = images_done / seconds
        return EpochRecord(epoch, mean_loss, score.accuracy, score.cross_entropy, rate, seconds, speed)

    def _rate(self, step: int) -> float:
        """Returns the learning rate of a step, counted from the start of the training."""
        config, step, steps = self.config, self.first * self.steps + step, self.total * self.steps
        return learning_rate(config.schedule, step, steps, peak=self.peak, warmup=config.warmup)

    def _step(self, images: Tensor, targets: Tensor, rate: float, done: int) -> Tensor:
        """Takes one step, after `done` others, and returns the loss, a scalar on the device."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        teacher_output = None
        with autocast(self.dtype, self.device):
            if self.teacher is not None:
                with torch.no_grad():
                    teacher_output = main_output(self.teacher(images))
            output = self.model(images)
        loss = self.objective.loss(Batch(targets, output, teacher_output, done))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.objective.after_step(rate)
        return loss.detach()

    def _report(self, epoch: int, step: int, loss: float, rate: float, images_per_second: float) -> None:
        """Reports the progress."""
        if self.hooks.on_step is None:
            return
        left = (self.config.planned_epochs - epoch + 1) * self.steps - step
        seconds_left = left * min(self.batch_size, len(self.train)) / images_per_second
        epochs = self.config.planned_epochs
        self.hooks.on_step(
            TrainingProgress(epoch, epochs, step, self.steps, loss, rate, images_per_second, seconds_left)
        )

    def _remember(self, record: EpochRecord) -> None:
        """Adds an epoch to the history; keeps its weights if the best are to be kept and these are the best so far."""
        earlier = self.history if self.start is None else [self.start, *self.history]
        is_best = all(record.rank() > other.rank() for other in earlier)
        self.history.append(record)
        if is_best:
            self.best = {"epoch": record.epoch, **self._copied()}

    def _state(self) -> dict[str, Any]:
        """Returns everything that the rest of the training depends on."""
        return {
            "model": self.model.state_dict(),
            "objective": self.objective.state(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "global_generators": random_states(),
            "start": None if self.start is None else asdict(self.start),
            "history": [asdict(record) for record in self.history],
            "best": self.best,
            "unfinished": self.unfinished,
        }

    def _restore(self, state: dict[str, Any] | None) -> None:
        """Continues from what `_state` returned."""
        if state is None:
            return
        check_state(state, self._state(), self.optimizer)
        self._take(state)
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state["optimizer"]["state"], "param_groups": groups})
        self.generator.set_state(state["generator"])
        set_random_states(state["global_generators"])
        self.start = None if state["start"] is None else EpochRecord(**state["start"])
        self.history = [EpochRecord(**record) for record in state["history"]]
        self.best, self.unfinished = state["best"], state.get("unfinished")


@contextmanager
def _ready(model: nn.Module, teacher: nn.Module | None, images: Tensor) -> Iterator[bool]:
    """Moves the networks to the images in the fastest layout, the teacher in evaluation mode, and restores them later.

    Yields:
        Whether the networks are channels-last; they are only if both accept such images.
    """
    networks = [model] if teacher is None else [model, teacher]
    for network in networks:
        move(network, device=images.device)
    try:
        with nullcontext() if teacher is None else evaluation_mode(teacher):
            yield all(lay_out(network, images) for network in networks)
    finally:
        for network in networks:
            move(network, memory_format=torch.contiguous_format)
        model.eval()
