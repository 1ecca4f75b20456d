"""The loss of training and fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional

from amc.errors import ModelError
from amc.training.config import FineTuneConfig

_AUXILIARY_WEIGHT = 0.3  # Szegedy et al., "Going Deeper with Convolutions", 2015, section 5


def training_loss(output: Any, targets: Tensor, config: FineTuneConfig, teacher: Tensor | None = None) -> Tensor:
    """Computes the loss of a batch.

    Args:
        output: Logits `(N, classes)`, or a sequence of them: the main output and auxiliary ones, which are added with
            a weight of 0.3 and not distilled.
        targets: `(N,)`, the true classes.
        config: Label smoothing, weight and temperature of the distillation.
        teacher: Logits `(N, classes)` of the dense network; plain cross-entropy without them.

    Returns:
        The mean over the batch, a scalar in float32.
    """
    logits, auxiliary = split_output(output)
    loss = functional.cross_entropy(logits.float(), targets, label_smoothing=config.label_smoothing)
    if teacher is not None and config.distillation:
        distilled = distillation_loss(logits.float(), teacher.float(), config.temperature)
        loss = (1 - config.distillation) * loss + config.distillation * distilled
    for extra in auxiliary:
        smoothing = config.label_smoothing
        loss = loss + _AUXILIARY_WEIGHT * functional.cross_entropy(extra.float(), targets, label_smoothing=smoothing)
    return loss


def distillation_loss(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Computes T^2 * KL(teacher || student) on outputs softened by T (Hinton et al. 2015, section 2).

    Args:
        logits: `(N, classes)`, of the student.
        teacher: `(N, classes)`.
        temperature: T; the factor T^2 keeps the gradients at the size of those of the cross-entropy.
    """
    student = functional.log_softmax(logits / temperature, dim=1)
    target = functional.log_softmax(teacher / temperature, dim=1)
    return temperature**2 * functional.kl_div(student, target, reduction="batchmean", log_target=True)


def split_output(output: Any) -> tuple[Tensor, list[Tensor]]:
    """Separates the main logits from those of auxiliary heads, which GoogLeNet and Inception return in training.

    Raises:
        ModelError: If the output is neither a tensor nor a sequence of tensors.
    """
    if isinstance(output, Tensor):
        return output, []
    if isinstance(output, Sequence) and output and all(item is None or isinstance(item, Tensor) for item in output):
        return output[0], [item for item in output[1:] if item is not None]
    raise ModelError(
        f"a classification network must return logits (N, classes), not {type(output).__name__}; "
        "for other tasks inject evaluate and finetune of your own"
    )
