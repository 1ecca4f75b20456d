"""Detects trainings that diverge or make a network worse."""

from __future__ import annotations

import math
import warnings

from amc.errors import ModelError
from amc.training.records import EpochRecord


class DivergedError(ModelError):
    """The loss has become NaN or infinite."""


def warn_if_worse(start: EpochRecord, end: EpochRecord, images: int) -> None:
    """Warns if training made a network worse by more than the error of the search split."""
    before, after = start.accuracy / 100, end.accuracy / 100
    spread = sum(share * (1 - share) for share in (before, after) if 0 <= share <= 1)  # other metrics may lie outside
    error = math.sqrt(spread / images)
    if after < before - 3 * error:
        warnings.warn(
            f"training made the network worse: from {start.accuracy:.2f} % to {end.accuracy:.2f} % on the search "
            "split; choose a smaller learning_rate, keep 'best', or no epochs",
            RuntimeWarning,
            stacklevel=2,
        )


def finite_loss(loss: float, epoch: int, rate: float) -> float:
    """Stops a training that has diverged.

    Raises:
        DivergedError: If the loss is NaN or infinite.
    """
    if not math.isfinite(loss):
        raise DivergedError(
            f"training diverged: the loss is {loss} in epoch {epoch}; choose a learning_rate below {rate:.3g}"
        )
    return loss
