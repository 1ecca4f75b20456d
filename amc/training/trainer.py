"""What a process does in a training: one trainer for training and fine-tuning."""

from __future__ import annotations

import copy
import math
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from amc.data.image_set import ImageSet, steps_per_epoch
from amc.problem.score import Score
from amc.runtime.call import evaluation_mode, move
from amc.runtime.collectives import ALONE, Collectives
from amc.runtime.device import resolve_device
from amc.runtime.freed_memory import freed_memory_kept
from amc.runtime.layout import lay_out
from amc.training.averaging import WeightAverage
from amc.training.checkpoint import read_checkpoint, save_checkpoint
from amc.training.compiling import compiled
from amc.training.config import TrainConfig, settings_of
from amc.training.distributed.draws import OwnDraws
from amc.training.distributed.shards import shard_of
from amc.training.divergence import DivergedError, finite_loss, warn_if_worse
from amc.training.evaluate import evaluate
from amc.training.features import FeatureDistillation
from amc.training.number_format import training_dtype
from amc.training.objective import Objective, objective_of
from amc.training.optimizer import optimizer_over
from amc.training.records import EpochRecord, TrainingHooks, TrainingProgress, TrainingResult
from amc.training.schedule import learning_rate
from amc.training.state_check import check_state
from amc.training.step import Stepper
from amc.training.terms import Training
from amc.training.work import Work
from amc.utils.random_state import isolated_random_state, random_states, set_random_states
from amc.utils.stopping import StopRequested, deferring_stops, stop_here, stop_requested

_REPORTS = 100  # progress reports per epoch; each waits for the device


def carry_out(
    work: Work,
    collectives: Collectives = ALONE,
    hooks: TrainingHooks | None = None,
    checkpoint: Path | None = None,
) -> TrainingResult:
    """Does a training in this process, together with those that `collectives` joins; see `amc.training.fine_tune`."""
    model, data, config, teacher = work.model, work.data, work.config, work.teacher
    place = resolve_device(work.device)
    few = data.search.take(range(min(2, len(data.search)))).inputs().to(place)
    settled = _ready(model, teacher, few)
    with freed_memory_kept(), isolated_random_state(work.seed), torch.enable_grad(), settled as channels_last:
        features = None
        if teacher is not None and config.feature_distillation > 0:
            features = FeatureDistillation(model, teacher, few)
        objective = objective_of(
            config, data.task, has_teacher=teacher is not None, features=features, others=work.terms, dense=teacher
        )
        trainer = _Trainer(work, objective, place, hooks or TrainingHooks(), channels_last, collectives)
        with objective.attached(trainer.training(few)):
            return trainer.run(checkpoint)


class _Trainer:
    """The state of a training."""

    def __init__(
        self,
        work: Work,
        objective: Objective,
        device: torch.device,
        hooks: TrainingHooks,
        channels_last: bool,
        collectives: Collectives,
    ) -> None:
        """Assembles the parts; the random state must already be seeded."""
        model, data, config = work.model, work.data, work.config
        self.model, self.config, self.device, self.hooks = model, config, device, hooks
        self.channels_last, self.collectives = channels_last, collectives
        self.objective = objective
        teacher = work.teacher if objective.needs_teacher else None
        self.dtype = training_dtype(model, data, config, device)
        # On an accelerator the images are kept there: as uint8 they are small, and gathering them is then free.
        resident = isinstance(data.train, ImageSet) and device.type == "cuda"
        train = data.train.to(device) if resident and isinstance(data.train, ImageSet) else data.train
        self.train = shard_of(train, collectives.rank, collectives.size)
        self.search, self.task = data.search, data.task
        assert config.batch_size is not None
        assert config.learning_rate is not None
        self.batch_size, self.peak = config.batch_size, config.learning_rate
        self.images, self.steps = len(data.train), steps_per_epoch(len(data.train), self.batch_size)
        self.optimizer = optimizer_over(model, config)
        forward = compiled(model) if config.compile else model
        self.stepper = Stepper(
            model, forward, teacher, objective, self.optimizer, self.dtype, device, collectives, config.accumulate
        )
        self.average = WeightAverage(model, config.ema) if config.ema and collectives.leads else None
        self.generator = torch.Generator().manual_seed(work.seed)
        self.draws = OwnDraws(work.seed, collectives)
        self.first, self.total = work.first_epoch, config.planned_epochs
        self.start: EpochRecord | None = None
        self.history: list[EpochRecord] = []
        self.best: dict[str, Any] | None = None
        self.unfinished: dict[str, Any] | None = None
        self.settings = {
            **settings_of(config),
            "seed": work.seed,
            "images": self.images,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "teacher": teacher is not None,
        }
        if work.first_epoch or work.schedule_epochs is not None:  # a part of a longer schedule
            self.total = work.schedule_epochs or self.total
            self.settings |= {"first_epoch": self.first, "schedule_epochs": self.total}

    def training(self, example: Tensor) -> Training:
        """Returns the information for the objective's terms; `example` is a few inputs."""
        epochs = self.config.planned_epochs
        return Training(self.model, self.optimizer, self.steps, epochs, self.images, example, self.collectives)

    def run(self, checkpoint: Path | None) -> TrainingResult:
        """Trains the remaining epochs, and leaves the chosen weights in the network."""
        state = None if checkpoint is None else read_checkpoint(checkpoint, self.settings)
        self._restore(self.collectives.value_of_first(state))
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
        elif self.average is not None:
            self._take(self._copied())
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
        score = self._scored()
        self.best = {"epoch": 0, **self._copied()}
        return EpochRecord(0, math.nan, score.accuracy, score.cross_entropy, 0.0, 0.0, 0.0)

    def _scored(self) -> Score:
        """Scores the network, or the average of its weights, on the search split; the first process does."""
        score = None
        if self.collectives.leads:
            with self._averaged():
                score = evaluate(self.model, self.search, device=self.device, dtype=self.dtype, task=self.task)
        shared: Score = self.collectives.value_of_first(score)
        return shared

    def _averaged(self) -> AbstractContextManager[None]:
        """Returns the context in which the network has the average of its weights, if there is one."""
        return nullcontext() if self.average is None else self.average.in_place()

    def _copied(self) -> dict[str, Any]:
        """Returns copies of the network's weights, on the CPU, and of the state of the objective's terms."""
        with self._averaged():
            weights = {name: tensor.detach().cpu().clone() for name, tensor in self.model.state_dict().items()}
        return {"model": weights, "objective": copy.deepcopy(self.objective.state())}

    def _take(self, state: Mapping[str, Any]) -> None:
        """Restores weights and terms from a copy."""
        self.model.load_state_dict(state["model"])
        self.objective.restore(state["objective"])

    def _epoch(self, epoch: int) -> EpochRecord:
        """Trains one epoch and scores the network on the search split."""
        self.model.train()
        self.draws.begin_epoch(epoch)
        start, images_done, rate = time.perf_counter(), 0, 0.0
        loss_sum, mean_loss, skipped = torch.zeros((), device=self.device), 0.0, 0
        begin = {"generator": self.generator.get_state(), "global_generators": random_states()}
        if self.unfinished is not None:  # the same images in the same order, up to where the epoch was stopped
            now, begin, skipped = random_states(), self.unfinished["begin"], self.unfinished["steps"]
            loss_sum = self.unfinished["loss_sum"].to(self.device)
            self.generator.set_state(begin["generator"])
            set_random_states(begin["global_generators"])
            self.draws.begin_epoch(epoch)
        batches = self.train.batches(
            self.batch_size, device=self.device, generator=self.generator, channels_last=self.channels_last
        )
        self.draws.begin_step(epoch, 1)
        step = 0
        for step, (images, targets) in enumerate(batches, start=1):
            done = (epoch - 1) * self.steps + step - 1
            rate = self._rate(done)
            if step <= skipped:
                if step == skipped:
                    set_random_states(now)
                self.draws.begin_step(epoch, step + 1)
                continue
            loss_sum += self.stepper.take(images, targets, rate, done)
            if self.average is not None:
                self.average.update()
            self.draws.begin_step(epoch, step + 1)
            images_done += len(targets) * self.collectives.size
            if step % max(1, self.steps // _REPORTS) == 0 or step == self.steps:
                mean_loss = finite_loss(float(loss_sum) / step, epoch, rate)
                self._report(epoch, step, mean_loss, rate, images_done / (time.perf_counter() - start))
            if stop_requested():
                self.unfinished = {"begin": begin, "steps": step, "loss_sum": loss_sum.cpu()}
                raise StopRequested
        seconds = time.perf_counter() - start
        score = self._scored()
        finite_loss(score.cross_entropy, epoch, rate)
        mean_loss = finite_loss(float(loss_sum) / max(1, step), epoch, rate)
        speed = images_done / seconds
        return EpochRecord(epoch, mean_loss, score.accuracy, score.cross_entropy, rate, seconds, speed)

    def _rate(self, step: int) -> float:
        """Returns the learning rate of a step, counted from the start of the training."""
        config, step, steps = self.config, self.first * self.steps + step, self.total * self.steps
        return learning_rate(config.schedule, step, steps, peak=self.peak, warmup=config.warmup)

    def _report(self, epoch: int, step: int, loss: float, rate: float, images_per_second: float) -> None:
        """Reports the progress."""
        if self.hooks.on_step is None:
            return
        left = (self.config.planned_epochs - epoch + 1) * self.steps - step
        seconds_left = left * min(self.batch_size, self.images) / images_per_second
        epochs = self.config.planned_epochs
        self.hooks.on_step(
            TrainingProgress(epoch, epochs, step, self.steps, loss, rate, images_per_second, seconds_left)
        )

    def _remember(self, record: EpochRecord) -> None:
        """Adds an epoch to the history; keeps its weights if the best are to be kept and these are the best so far."""
        earlier = self.history if self.start is None else [self.start, *self.history]
        is_best = all(record.rank() > other.rank() for other in earlier)
        self.history.append(record)
        if is_best and self.collectives.leads:
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
            **({} if self.average is None else {"average": self.average.state()}),
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
        if self.average is not None:
            self.average.restore(state["average"])


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
