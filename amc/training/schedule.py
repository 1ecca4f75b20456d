"""The learning rate as a function of the progress, so that resuming needs no state of a scheduler."""

from __future__ import annotations

import math

from amc.training.config import FineTuneConfig

_START = 1 / 25  # of the peak: where the warm-up begins
_END = 1e-4  # of the peak: where the schedule ends


def learning_rate(config: FineTuneConfig, step: int, steps: int) -> float:
    """Returns the learning rate of a step.

    Args:
        config: Peak, kind of schedule and share of the warm-up.
        step: The step, from 0.
        steps: Steps in all.
    """
    rising = config.warmup * steps
    if step < rising:
        progress = step / rising
        if config.schedule == "one_cycle":
            return config.learning_rate * _cosine(_START, 1.0, progress)
        return config.learning_rate * (_START + (1 - _START) * progress)
    falling = max(1.0, steps - 1 - rising)
    return config.learning_rate * _cosine(1.0, _END, min(1.0, (step - rising) / falling))


def _cosine(start: float, end: float, progress: float) -> float:
    """Goes from `start` to `end` along half a cosine, as `progress` goes from 0 to 1."""
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
