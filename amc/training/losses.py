"""The loss of training and fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from amc.data.tasks import CLASSIFICATION, TaskType
from amc.runtime.outputs import main_output
from amc.training.config import FineTuneConfig

_AUXILIARY_WEIGHT = 0.3  # Szegedy et al., "Going Deeper with Convolutions", 2015, section 5


def training_loss(
    output: Any,
    targets: Tensor,
    config: FineTuneConfig,
    teacher: Tensor | None = None,
    task: TaskType = CLASSIFICATION,
) -> Tensor:
    """Computes the loss of a batch.

    Args:
        output: What the network returns; see `split_output`. Auxiliary outputs are added with a weight of 0.3 and not
            distilled.
        targets: As the data has them, `(N, ...)`.
        config: Label smoothing, weight and temperature of the distillation.
        teacher: The dense network's main output; the task's loss alone without it.
        task: What is trained.

    Returns:
        The mean over the batch, a scalar in float32.
    """
    main, auxiliary = split_output(output)
    loss = task.loss_of(main, targets, config.label_smoothing)
    if teacher is not None and config.distillation:
        distilled = task.distillation(main, teacher, config.temperature)
        loss = (1 - config.distillation) * loss + config.distillation * distilled
    for extra in auxiliary:
        loss = loss + _AUXILIARY_WEIGHT * task.loss_of(extra, targets, config.label_smoothing)
    return loss


def split_output(output: Any) -> tuple[Tensor, list[Tensor]]:
    """Separates the main output from those of auxiliary heads, which some networks return in training.

    They are what follows the main output in a sequence in the same shape (GoogLeNet, Inception), or `aux` in a mapping
    (torchvision's segmentation networks).

    Raises:
        ModelError: If there is no main output; see `main_output`.
    """
    main = main_output(output)
    others: Sequence[Any] = ()
    if isinstance(output, Mapping):
        others = (output.get("aux"),)
    elif isinstance(output, Sequence):
        others = output[1:]
    return main, [extra for extra in others if isinstance(extra, Tensor) and extra.shape == main.shape]
