"""The learning rate as a function of the progress, so that resuming needs no scheduler state."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from amc.errors import ConfigurationError
from amc.utils.options import Chosen, create, spell
from amc.utils.registry import Registry

_START = 1 / 25  # of the peak, at the start of the warm-up
_END = 1e-4  # of the peak, at the end of the schedule


class Schedule(Protocol):
    """The shape of the learning rate over a training."""

    def __call__(self, step: int, steps: int, warmup: float) -> float:
        """Returns the learning rate of a step as a share of the peak.

        Args:
            step: The step, from 0.
            steps: Total number of steps.
            warmup: Share of all steps in which the learning rate rises.
        """
        ...


@dataclass(frozen=True)
class OneCycle:
    """Rises and falls along half a cosine each (Smith and Topin 2017, arXiv:1708.07120, with cosines instead of lines).

    Attributes:
        end: The last learning rate, as a share of the peak.

    Raises:
        ConfigurationError: If it is not in [0, 1].
    """

    end: float = _END

    def __post_init__(self) -> None:
        """Checks the option."""
        _check_end(self.end)

    def __call__(self, step: int, steps: int, warmup: float) -> float:
        """Returns the share of the peak; see `Schedule`."""
        rising = warmup * steps
        if step < rising:
            return _cosine(_START, 1.0, step / rising)
        return _cosine(1.0, self.end, _fallen(step, steps, rising))


@dataclass(frozen=True)
class Cosine:
    """Rises along a line and falls along half a cosine (Loshchilov and Hutter 2016, arXiv:1608.03983).

    Attributes:
        end: The last learning rate, as a share of the peak.

    Raises:
        ConfigurationError: If it is not in [0, 1].
    """

    end: float = _END

    def __post_init__(self) -> None:
        """Checks the option."""
        _check_end(self.end)

    def __call__(self, step: int, steps: int, warmup: float) -> float:
        """Returns the share of the peak; see `Schedule`."""
        rising = warmup * steps
        if step < rising:
            return _risen(step / rising)
        return _cosine(1.0, self.end, _fallen(step, steps, rising))


@dataclass(frozen=True)
class StepDecay:
    """Rises along a line, then falls by a factor at each milestone.

    Attributes:
        milestones: Shares of all steps at which the learning rate falls.
        factor: What it is multiplied by.

    Raises:
        ConfigurationError: If a milestone is not a share, or the factor is not in (0, 1].
    """

    milestones: tuple[float, ...] = (0.5, 0.75)
    factor: float = 0.1

    def __post_init__(self) -> None:
        """Checks the options."""
        if not 0 < self.factor <= 1 or not all(0 <= share <= 1 for share in self.milestones):
            raise ConfigurationError(
                "steps: milestones must be shares of the training, 0 to 1, and the factor in (0, 1], "
                f"not {list(self.milestones)} and {self.factor:g}"
            )

    def __call__(self, step: int, steps: int, warmup: float) -> float:
        """Returns the share of the peak; see `Schedule`."""
        rising = warmup * steps
        if step < rising:
            return _risen(step / rising)
        return self.factor ** sum(step >= share * steps for share in self.milestones)


SCHEDULES: Registry[Callable[..., Schedule]] = Registry(
    "learning-rate schedule", "amc.learning_rate_schedules", method="__call__"
)
"""Every schedule's factory by name; see `amc.utils.options`."""

SCHEDULES.register("one_cycle", OneCycle, "rises and falls along a cosine")
SCHEDULES.register("cosine", Cosine, "rises along a line and falls along a cosine")
SCHEDULES.register("steps", StepDecay, "rises along a line and falls by a factor at milestones")


def learning_rate(schedule: Chosen, step: int, steps: int, *, peak: float, warmup: float) -> float:
    """Returns the learning rate of a step.

    Args:
        schedule: The schedule, with or without options.
        step: The step, from 0.
        steps: Steps in all.
        peak: The highest learning rate.
        warmup: Share of all steps in which it rises.
    """
    return peak * _created(spell(SCHEDULES, schedule))(step, steps, warmup)


@lru_cache(maxsize=32)
def _created(schedule: str) -> Schedule:
    return create(SCHEDULES, schedule)


def _check_end(end: float) -> None:
    """Rejects a last learning rate that is not a share of the peak.

    Raises:
        ConfigurationError: If it is not in [0, 1].
    """
    if not 0 <= end <= 1:
        raise ConfigurationError(f"the end of a schedule must be a share of the peak, 0 to 1, not {end:g}")


def _fallen(step: int, steps: int, rising: float) -> float:
    """Returns how much of the way down is done, 0 to 1."""
    return min(1.0, (step - rising) / max(1.0, steps - 1 - rising))


def _risen(progress: float) -> float:
    return _START + (1 - _START) * progress


def _cosine(start: float, end: float, progress: float) -> float:
    """Goes from `start` to `end` along half a cosine, as `progress` goes from 0 to 1."""
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
