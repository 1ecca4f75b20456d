"""The kinds of tasks: what targets look like, and the loss and the metric that go with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from amc.data.tasks.losses import IGNORED, LOSSES, Loss, cross_entropy
from amc.data.tasks.meters import Meter, OwnMetric, meter_of
from amc.data.tasks.metrics import METRICS, Metric
from amc.errors import ConfigurationError, DataError
from amc.utils.registry import Registry

Align: TypeAlias = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

_VOID = 255
"""The class of ignored pixels in masks of PASCAL VOC and Cityscapes."""


@dataclass(frozen=True)
class TaskType:
    """A kind of task, with its loss and its metric.

    Attributes:
        name: A name in `TASKS`.
        align: Brings outputs and targets of a batch to the shapes that loss and metric take; raises DataError.
        distil: Compares outputs with the dense network's under a temperature; returns a scalar.
        loss: Takes aligned outputs and targets; returns a scalar.
        metric: A metric, or a function of all outputs and targets; higher is better.
        metric_name: What the metric is called in reports.
    """

    name: str
    align: Align
    distil: Callable[[Tensor, Tensor, float], Tensor]
    loss: Loss
    metric: Metric | OwnMetric
    metric_name: str

    @property
    def assigns_classes(self) -> bool:
        """Whether every input has one class, scored by accuracy: the task that all rewards are made for."""
        return self.name == "classification" and self.metric_name == "accuracy"

    @property
    def title(self) -> str:
        """Name of the metric, for captions."""
        return self.metric.title if isinstance(self.metric, Metric) else f"{self.metric_name}, a metric of your own"

    def loss_of(self, outputs: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Returns the loss of a batch, a scalar in float32.

        Args:
            outputs: The network's main output.
            targets: As the data has them.
            label_smoothing: Share of the target that is spread over all classes; cross-entropy alone has it.

        Raises:
            DataError: If outputs and targets do not fit each other.
        """
        aligned = self.align(outputs.float(), targets)
        if self.loss is cross_entropy and label_smoothing:
            return cross_entropy(*aligned, label_smoothing)
        return self.loss(*aligned)

    def loss_and_count(self, outputs: Tensor, targets: Tensor) -> tuple[float, int]:
        """Returns the loss of a batch, and over how many targets it is a mean: classes that do not count are none.

        Args:
            outputs: The network's main output.
            targets: As the data has them.

        Returns:
            The loss, 0 where no target counts, and their number; of losses other than the cross-entropy, and of shares
            of classes, that of the items.

        Raises:
            DataError: If outputs and targets do not fit each other.
        """
        outputs, targets = self.align(outputs.float(), targets)
        is_counted = self.loss is cross_entropy and not targets.is_floating_point()
        count = int((targets != IGNORED).sum()) if is_counted else len(targets)
        return (float(self.loss(outputs, targets)) if count else 0.0), count

    def distillation(self, outputs: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """Returns how far outputs are from the dense network's, a scalar."""
        return self.distil(outputs.float(), teacher.float(), temperature)

    def meter(self) -> Meter:
        """Returns a meter of the metric over a split, which aligns its input."""
        return _Aligned(self.align, meter_of(self.metric))


class _Aligned:
    def __init__(self, align: Align, meter: Meter) -> None:
        self._align, self._meter = align, meter

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        self._meter.add(*self._align(outputs.float(), targets))

    def figure(self) -> float:
        return self._meter.figure()


def _classes(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Aligns `(N, K)` with classes `(N,)` or shares `(N, K)`."""
    if outputs.dim() != 2 or not len(outputs):
        raise DataError(f"a classification network must return logits (N, classes), not {tuple(outputs.shape)}")
    if targets.shape == outputs.shape and outputs.shape[1] > 1:
        return outputs, targets.float()
    if targets.dim() != 1:
        raise DataError(
            f"targets must be one class an image, (N,), or a share of every class, (N, {outputs.shape[1]}), not "
            f"{tuple(targets.shape)}"
        )
    if targets.is_floating_point() and not bool((targets == targets.round()).all()):
        raise DataError(
            f"classes must be whole numbers, not {float(targets[targets != targets.round()][0]):g}; "
            "for real numbers give the task 'regression'"
        )
    return outputs, _in_range(targets.long(), outputs.shape[1])


def _masks(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Aligns `(N, K, h, w)` with masks `(N, H, W)` or `(N, 1, H, W)`; outputs are resized to the masks."""
    targets = targets.squeeze(1) if targets.dim() == outputs.dim() and targets.shape[1] == 1 else targets
    if outputs.dim() < 3 or targets.dim() != outputs.dim() - 1:
        raise DataError(
            f"a segmentation network must return (N, classes, H, W) for masks (N, H, W), not {tuple(outputs.shape)} "
            f"for {tuple(targets.shape)}"
        )
    if outputs.shape[2:] != targets.shape[1:]:
        outputs = functional.interpolate(outputs, size=targets.shape[1:], mode="bilinear", align_corners=False)
    classes = targets.long()
    if outputs.shape[1] <= _VOID:
        classes = torch.where(classes == _VOID, IGNORED, classes)
    return outputs, _in_range(classes, outputs.shape[1], ignored=IGNORED)


def _numbers(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Aligns outputs and targets of the same shape; an axis of length one after the first may be missing in either."""
    if targets.dim() == outputs.dim() - 1 and outputs.shape[1] == 1:
        outputs = outputs.squeeze(1)
    elif targets.dim() == outputs.dim() + 1 and targets.shape[1] == 1:
        targets = targets.squeeze(1)
    if outputs.shape != targets.shape:
        raise DataError(
            f"the network must return as many numbers as the targets have: it returns {tuple(outputs.shape)} for "
            f"targets of shape {tuple(targets.shape)}"
        )
    return outputs, targets.float()


def _in_range(classes: Tensor, count: int, ignored: int | None = None) -> Tensor:
    """Checks that the network has an output for every class."""
    counted = classes if ignored is None else classes[classes != ignored]
    if counted.numel() and int(counted.min()) < 0:
        raise DataError(
            f"classes must be numbers from 0, not {int(counted.min())}; number them from 0, or "
            "give the task 'regression' for numbers to be predicted"
        )
    if counted.numel() and int(counted.max()) >= count:
        found = f"the data has a class {int(counted.max())}"
        remedy = "build the model with the data's number of classes"
        if count == 1:
            raise DataError(
                f"{found}, but the network has 1 output: give the task 'multilabel' for a label of 0 or 1, or "
                f"'regression' for numbers to be predicted; else {remedy}"
            )
        raise DataError(f"{found}, but the network has {count} outputs, for the classes 0 to {count - 1}; {remedy}")
    return classes


def soft_divergence(outputs: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Returns T^2 * KL(teacher || student) on outputs softened by T (Hinton et al. 2015, section 2).

    Args:
        outputs: `(N, K)` or `(N, K, H, W)`, of the student.
        teacher: The same shape.
        temperature: T; the factor T^2 keeps the gradients at the size of those of the cross-entropy.
    """
    student = functional.log_softmax(outputs / temperature, dim=1)
    target = functional.log_softmax(teacher / temperature, dim=1)
    divergence = functional.kl_div(student, target, reduction="sum", log_target=True)
    return temperature**2 * divergence / (outputs.numel() // outputs.shape[1])


def _label_divergence(outputs: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Compares every label by itself, both softened by T."""
    soft = torch.sigmoid(teacher / temperature)
    return temperature**2 * functional.binary_cross_entropy_with_logits(outputs / temperature, soft)


def _difference(outputs: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Compares numbers; the temperature has no effect."""
    return functional.mse_loss(outputs, teacher)


def _metric(name: str) -> Metric:
    return METRICS.get(name)


CLASSIFICATION = TaskType("classification", _classes, soft_divergence, cross_entropy, _metric("accuracy"), "accuracy")
"""One class per input, or shares of classes."""

TASKS: Registry[TaskType] = Registry("task")
TASKS.register("classification", CLASSIFICATION, "one class an input, or a share of every class")
TASKS.register(
    "segmentation",
    TaskType("segmentation", _masks, soft_divergence, cross_entropy, _metric("miou"), "miou"),
    "one class a pixel; 255 and -100 do not count",
)
TASKS.register(
    "multilabel",
    TaskType("multilabel", _numbers, _label_divergence, LOSSES.get("bce"), _metric("f1"), "f1"),
    "any number of labels an input, each 0 or 1",
)
TASKS.register(
    "regression", TaskType("regression", _numbers, _difference, LOSSES.get("mse"), _metric("r2"), "r2"), "real numbers"
)


def task_type(
    name: str | None,
    targets: Tensor,
    *,
    loss: str | Loss | None = None,
    metric: str | OwnMetric | None = None,
) -> TaskType:
    """Returns the task of some data.

    Args:
        name: A name in `TASKS`; inferred from the targets if None.
        targets: A sample of them, `(N, ...)`.
        loss: A name in `LOSSES`, or a function of outputs and targets; the task's own if None.
        metric: A name in `METRICS`, a function of all outputs and targets, or an object of torchmetrics; the task's
            own if None.

    Raises:
        UnknownNameError: If a name does not exist.
        ConfigurationError: If loss or metric is neither a name nor a function.
    """
    task = TASKS.get(name if name is not None else infer_task(targets))
    if loss is not None:
        task = replace(task, loss=LOSSES.get(loss) if isinstance(loss, str) else _function(loss, "loss"))
    if metric is None:
        return task
    if isinstance(metric, str):
        return replace(task, metric=METRICS.get(metric), metric_name=metric)
    title = getattr(metric, "__name__", type(metric).__name__)
    return replace(task, metric=_function(metric, "metric"), metric_name=title)


def _function(given: Callable[[Tensor, Tensor], Tensor], kind: str) -> Callable[[Tensor, Tensor], Tensor]:
    if not callable(given):
        raise ConfigurationError(f"the {kind} must be a name or a function of outputs and targets, not {given!r}")
    return given


def infer_task(targets: Tensor) -> str:
    """Infers the task from its targets.

    Whole numbers, one an input, are classes; one a pixel, a mask. Rows that add up to 1 are shares of classes; other
    rows of zeros and ones are labels. Everything else is numbers to be predicted.
    """
    whole = not targets.is_floating_point() or bool((targets == targets.round()).all())
    if targets.dim() <= 1:
        return "classification" if whole else "regression"
    if targets.dim() == 2 and targets.shape[1] > 1 and bool((targets >= 0).all()):
        sums = targets.double().sum(1)
        if torch.allclose(sums, torch.ones_like(sums), atol=1e-4):
            return "classification"
    if not targets.is_floating_point() and targets.dtype != torch.bool and targets.dim() >= 3:
        return "segmentation"
    binary = bool(((targets == 0) | (targets == 1)).all())
    return "multilabel" if binary else "regression"
