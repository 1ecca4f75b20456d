"""Scoring a network on a data split."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from amc.data.image_set import Batch, BatchSource
from amc.data.splits import DataRoles
from amc.data.tasks import CLASSIFICATION, TaskType
from amc.errors import DataError, ModelError
from amc.problem.score import Score
from amc.runtime.batch_size import batch_size_for
from amc.runtime.call import inference, move
from amc.runtime.device import DeviceLike, autocast, device_of, resolve_device, resolve_dtype
from amc.runtime.layout import AnyLayout
from amc.runtime.memory import BatchesThatFit
from amc.runtime.outputs import main_output
from amc.utils.progress import Progress, silent

_ONE_SIDED = 1.645
"""Standard errors that are exceeded by luck in one case of twenty."""


def evaluate(
    model: nn.Module,
    data: BatchSource,
    *,
    batch_size: int = 250,
    device: DeviceLike | None = None,
    dtype: str | torch.dtype = "float32",
    reference: Tensor | None = None,
    task: TaskType = CLASSIFICATION,
    advance: Progress = silent,
) -> Score:
    """Scores a network.

    Args:
        model: Maps `(N, C, H, W)` to logits `(N, classes)`, or to what the task needs; its training flags are restored
            afterwards.
        data: The split to score on.
        batch_size: Images per batch.
        device: Where to compute; the network is moved there. The network's own device if not given.
        dtype: `"float32"`, `"bfloat16"` (autocast), or `"auto"`: bfloat16 where the device gains from it.
        reference: The classes `(N,)` that the dense network assigns, to measure the agreement with it.
        task: What the network was trained to do. In tasks other than classification the score's `accuracy` is the
            task's metric, and its `cross_entropy` the task's loss.
        advance: Takes the share of the images that is done.

    Raises:
        DataError: If the split is empty, or the network's outputs do not fit the targets.
        ModelError: If the network returns no tensor.
    """
    if task.assigns_classes:
        logits, targets = predict(model, data, batch_size=batch_size, device=device, dtype=dtype, advance=advance)
        return score_logits(logits, targets, reference)
    batches = run_batches(model, data, batch_size=batch_size, device=device, dtype=dtype, advance=advance)
    return score_batches(batches, task)


def score_batches(batches: Iterable[Batch], task: TaskType) -> Score:
    """Scores outputs against targets, batch by batch; see `evaluate`.

    Args:
        batches: Main outputs and targets of batches.
        task: Has the metric and the loss.

    Raises:
        DataError: If there are none, or they do not fit each other.
    """
    meter, loss, counted, items = task.meter(), 0.0, 0, 0
    for outputs, targets in batches:
        meter.add(outputs, targets)
        mean, count = task.loss_and_count(outputs, targets)
        loss += mean * count
        counted += count
        items += len(targets)
    if not items:
        raise DataError("a split to score on must hold images; it is empty")
    return Score(meter.figure(), loss / max(counted, 1), images=items)


def is_chance(accuracy: float, data: DataRoles, images: int | None = None) -> bool:
    """Returns whether a figure is no better than guessing, given the number of images.

    Always guessing the most frequent class of the search split is right for its share of the images; an accuracy is no
    better than that if chance alone reaches it in one of twenty tests. An R2 is no better at 0 or below. Other metrics
    are never called chance.

    Args:
        accuracy: The figure.
        data: Has the task and the classes.
        images: How many images it was measured on; those of the test split if None.
    """
    if data.task.metric_name == "r2":
        return accuracy <= 0
    targets = data.search.targets
    if targets.dim() == 2 and targets.is_floating_point():  # one probability for each class
        targets = targets.argmax(1)
    if not data.task.assigns_classes or targets.dim() != 1:
        return False
    chance = float(targets.bincount().max()) / len(data.search)
    return chance < 1 and accuracy / 100 <= chance + _ONE_SIDED * math.sqrt(
        chance * (1 - chance) / (images or len(data.test))
    )


def score_logits(logits: Tensor, targets: Tensor, reference: Tensor | None = None) -> Score:
    """Computes the score of logits `(N, classes)` against the true classes `(N,)`; see `evaluate`.

    Raises:
        DataError: If there are no images, or classes beyond the logits.
    """
    if not len(targets):
        raise DataError("a split to score on must hold images; it is empty")
    logits, targets = CLASSIFICATION.align(logits, targets)
    predicted = logits.argmax(1)
    agreement = float("nan") if reference is None else _percent(predicted == reference.to(predicted.device))
    cross_entropy = float(functional.cross_entropy(logits.double(), targets))
    classes = targets if targets.dim() == 1 else targets.argmax(1)
    return Score(_percent(predicted == classes), cross_entropy, agreement, len(targets))


def predict(
    model: nn.Module,
    data: BatchSource,
    *,
    batch_size: int = 250,
    device: DeviceLike | None = None,
    dtype: str | torch.dtype = "float32",
    advance: Progress = silent,
) -> tuple[Tensor, Tensor]:
    """Runs a network over a split.

    Args:
        model: As for `evaluate`.
        data: As for `evaluate`.
        batch_size: As for `evaluate`.
        device: As for `evaluate`.
        dtype: As for `evaluate`.
        advance: As for `evaluate`.

    Returns:
        The logits `(N, classes)` in float32 and the true classes `(N,)`, both on the device.

    Raises:
        DataError: If the split is empty.
        ModelError: If the network's output is not a tensor of logits.
    """
    outputs, classes = [], []
    batches = run_batches(model, data, batch_size=batch_size, device=device, dtype=dtype, advance=advance)
    for logits, targets in batches:
        if logits.dim() != 2:
            raise ModelError(
                f"a classification network must return logits (N, classes), not {tuple(logits.shape)}; name another "
                "task, or give evaluate of your own"
            )
        outputs.append(logits)
        classes.append(targets)
    if not outputs:
        raise DataError("a split to score on must hold images; it is empty")
    return torch.cat(outputs), torch.cat(classes)


def run_batches(
    model: nn.Module,
    data: BatchSource,
    *,
    batch_size: int = 250,
    device: DeviceLike | None = None,
    dtype: str | torch.dtype = "float32",
    advance: Progress = silent,
) -> Iterator[Batch]:
    """Runs a network over a split, and yields its main outputs in float32 and the targets, batch by batch.

    Args:
        model: As for `evaluate`.
        data: As for `evaluate`.
        batch_size: As for `evaluate`.
        device: As for `evaluate`.
        dtype: As for `evaluate`.
        advance: As for `evaluate`.

    Raises:
        ModelError: If the network returns no tensor.
    """
    place = device_of(model) if device is None else resolve_device(device)
    number_format = resolve_dtype(dtype, place)
    move(model, device=place)
    run, fitting, done = AnyLayout(model), BatchesThatFit(), 0
    for images, targets in data.batches(batch_size, device=place, channels_last=True):
        with inference(model), autocast(number_format, place):
            parts = torch.split(images, batch_size_for(images)) if place.type == "cpu" else [images]
            outputs = torch.cat([fitting(lambda part: main_output(run(part)).float(), part) for part in parts])
        done += len(targets)
        advance(min(1.0, done / max(1, len(data))))
        yield outputs, targets


def _percent(hits: Tensor) -> float:
    """Returns the share of true values in percent."""
    return 100.0 * int(hits.sum()) / len(hits)
