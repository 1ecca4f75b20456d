"""Metrics by name: figures of merit of a network on a split. Higher is better in all of them.

Each is computed from sums over the batches, so that outputs need not be stored: those of segmentation would fill the
memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from amc.utils.registry import Registry


@dataclass(frozen=True)
class Metric:
    """A figure of merit.

    Attributes:
        title: What it is, for captions.
        sums: Of outputs and targets, as `TaskType.align` returns them, makes float64 sums that add up over batches.
        figure: Of those sums makes the figure.
    """

    title: str
    sums: Callable[[Tensor, Tensor], Tensor]
    figure: Callable[[Tensor], float]


def _predicted(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the assigned and the true class of everything that counts, both flat."""
    true = targets.argmax(1) if targets.shape == outputs.shape else targets
    counts = true >= 0
    return outputs.argmax(1)[counts], true[counts]


def _hits(outputs: Tensor, targets: Tensor) -> Tensor:
    predicted, true = _predicted(outputs, targets)
    return torch.tensor([int((predicted == true).sum()), len(true)], dtype=torch.float64)


def _hits_of_five(outputs: Tensor, targets: Tensor) -> Tensor:
    true = targets.argmax(1) if targets.shape == outputs.shape else targets
    counts = true >= 0
    hit = (outputs.topk(min(5, outputs.shape[1]), dim=1).indices == true.unsqueeze(1)).any(dim=1)
    return torch.tensor([int(hit[counts].sum()), int(counts.sum())], dtype=torch.float64)


def _confusion(outputs: Tensor, targets: Tensor) -> Tensor:
    """Counts by true and assigned class, `(K, K)`."""
    predicted, true = _predicted(outputs, targets)
    classes = outputs.shape[1]
    return torch.bincount(true * classes + predicted, minlength=classes**2).view(classes, classes).double().cpu()


def _labels(outputs: Tensor, targets: Tensor) -> Tensor:
    """Counts labels: true positives, false positives, false negatives, and all."""
    given, wanted = outputs > 0, targets > 0.5
    counts = [(given & wanted).sum(), (given & ~wanted).sum(), (~given & wanted).sum()]
    return torch.tensor([*map(int, counts), wanted.numel()], dtype=torch.float64)


def _moments(outputs: Tensor, targets: Tensor) -> Tensor:
    """Sums by output: count, targets, squared targets, squared errors, absolute errors, `(5, outputs)`."""
    outputs, targets = (values.double().cpu().reshape(len(values), -1) for values in (outputs, targets))
    errors = outputs - targets
    count = torch.full((targets.shape[1],), float(len(targets)), dtype=torch.float64)
    return torch.stack([count, targets.sum(0), targets.square().sum(0), errors.square().sum(0), errors.abs().sum(0)])


def _share(sums: Tensor) -> float:
    return 100.0 * float(sums[0]) / max(1.0, float(sums[1]))


def _mean_of(shares: Tensor) -> float:
    """Returns the mean in percent over the classes that occur: the share of any other is NaN."""
    return 100.0 * float(shares.nanmean())


def _recall(confusion: Tensor) -> float:
    return _mean_of(confusion.diag() / confusion.sum(1))


def _overlap(confusion: Tensor) -> float:
    return _mean_of(confusion.diag() / (confusion.sum(0) + confusion.sum(1) - confusion.diag()))


def _f1(sums: Tensor) -> float:
    right, wrong, missed, _ = sums.tolist()
    return float(100.0 * 2 * right / max(1.0, 2 * right + wrong + missed))


def _label_share(sums: Tensor) -> float:
    return 100.0 * (1 - float(sums[1] + sums[2]) / max(1.0, float(sums[3])))


def _determination(sums: Tensor) -> float:
    count, total, squares, errors, _ = sums
    spread = (squares - total.square() / count).clamp_min(1e-12)
    return 100.0 * float((1 - errors / spread).mean())


METRICS: Registry[Metric] = Registry("metric", "amc.metrics")
METRICS.register("accuracy", Metric("top-1 on the test images, in percent", _hits, _share), "top-1 accuracy")
METRICS.register(
    "top5", Metric("right class among the first five, in percent", _hits_of_five, _share), "top-5 accuracy"
)
METRICS.register(
    "balanced_accuracy", Metric("mean recall of the classes, in percent", _confusion, _recall), "mean recall"
)
METRICS.register(
    "miou", Metric("mean intersection over union of the classes, in percent", _confusion, _overlap), "mean overlap"
)
METRICS.register("f1", Metric("F1 of all labels together, in percent", _labels, _f1), "F1 of labels (one mask: Dice)")
METRICS.register("label_accuracy", Metric("share of right labels, in percent", _labels, _label_share), "right labels")
METRICS.register("r2", Metric("coefficient of determination (R2) times 100", _moments, _determination), "R2 times 100")
METRICS.register(
    "neg_mse",
    Metric("mean squared error times -1", _moments, lambda sums: -float((sums[3] / sums[0]).mean())),
    "mean squared error times -1",
)
METRICS.register(
    "neg_mae",
    Metric("mean absolute error times -1", _moments, lambda sums: -float((sums[4] / sums[0]).mean())),
    "mean absolute error times -1",
)
