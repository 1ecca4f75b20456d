"""The test figure of a network, overall and by class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from amc.data.preprocessing import preprocessing_record
from amc.pipeline.task import Task
from amc.storage.summary import Classes
from amc.training.evaluate import predict, score_logits
from amc.utils.progress import Progress, silent

_MOST_CLASSES = 1000
_TOP = 5
"""Guesses of which one must be right for the top-5 accuracy."""


@dataclass(frozen=True)
class Tested:
    """The result of a test.

    Attributes:
        figure: The figure to report; see `Task.test`.
        images: Test images of each class; empty where the task has no classes, one label per image.
        correct: How many of them the network classifies correctly.
        top5: Percent of the images whose class is among the five likeliest; None for five classes and fewer, and
            where there are no classes.
    """

    figure: float
    images: tuple[int, ...] = ()
    correct: tuple[int, ...] = ()
    top5: float | None = None


def measured_by_class(task: Task, model: nn.Module, advance: Progress = silent) -> Tested:
    """Measures a network on the test split, by class where there are classes; the figure is that of `Task.test`."""
    data = task.data
    if task.measure is not None or data is None or not data.task.assigns_classes:
        return Tested(task.test(model, advance))
    logits, targets = predict(model, data.test, device=task.device, advance=advance)
    figure, classes = score_logits(logits, targets).accuracy, logits.shape[1]
    if targets.dim() != 1:  # shares of classes are no labels
        return Tested(figure)
    top5 = top5_accuracy(logits, targets)
    if classes > _MOST_CLASSES:
        return Tested(figure, top5=top5)
    right: Tensor = targets[logits.argmax(1) == targets]
    images, correct = (tuple(found.bincount(minlength=classes).tolist()) for found in (targets, right))
    return Tested(figure, images, correct, top5)


def top5_accuracy(logits: Tensor, targets: Tensor) -> float | None:
    """Returns the percent of images whose class is among the five likeliest; None for five classes and fewer.

    Args:
        logits: `(N, classes)`.
        targets: The classes `(N,)`.
    """
    if logits.shape[1] <= _TOP:
        return None
    found = (logits.topk(_TOP, dim=1).indices == targets[:, None]).any(1)
    return 100.0 * float(found.double().mean())


def classes_record(task: Task, dense: Tested, delivered: Tested) -> Classes | None:
    """Returns what `summary.json` holds of the classes; None where there are none."""
    if not dense.images or not delivered.images:
        return None
    return Classes(
        names=list(class_names(task, len(dense.images))),
        images=list(dense.images),
        dense=list(dense.correct),
        finetuned=list(delivered.correct),
    )


def class_names(task: Task, count: int) -> Sequence[str]:
    """Returns the names of a task's classes; their numbers where they have none."""
    record = None if task.data is None else preprocessing_record(task.data.test)
    names = [] if record is None else list(record["class_names"])
    return names if len(names) == count else [str(number) for number in range(count)]
