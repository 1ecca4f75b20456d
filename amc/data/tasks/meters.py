"""Computing a metric over the batches of a split: by name, a function of your own, or a torchmetrics object."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

from amc.data.tasks.metrics import Metric
from amc.errors import ConfigurationError

OwnMetric: TypeAlias = Callable[[Tensor, Tensor], Any]
"""Takes all outputs and all targets of a split and returns a number, higher is better."""


class Meter(Protocol):
    """Takes batches, then returns the figure."""

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        """Takes the outputs and targets of a batch."""

    def figure(self) -> float:
        """Returns the figure of all batches so far."""


def meter_of(metric: Metric | OwnMetric) -> Meter:
    """Returns a new meter: of sums where the metric has some, else of its own `update` and `compute`, else of all."""
    if isinstance(metric, Metric):
        return _SumMeter(metric)
    if all(callable(getattr(metric, name, None)) for name in ("update", "compute", "reset")):
        return _UpdatedMeter(metric)
    return _WholeMeter(metric)


class _SumMeter:
    def __init__(self, metric: Metric) -> None:
        self._metric = metric
        self._sums: Tensor | None = None

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        sums = self._metric.sums(outputs, targets)
        self._sums = sums if self._sums is None else self._sums + sums

    def figure(self) -> float:
        return math.nan if self._sums is None else self._metric.figure(self._sums)


class _UpdatedMeter:
    """Metrics of torchmetrics and similar ones, which keep a state."""

    def __init__(self, metric: Any) -> None:
        self._metric = metric
        metric.reset()

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        self._metric.update(outputs.cpu(), targets.cpu())

    def figure(self) -> float:
        return _number(self._metric.compute(), self._metric)


class _WholeMeter:
    """Functions, which need all outputs at once."""

    def __init__(self, metric: OwnMetric) -> None:
        self._metric = metric
        self._outputs: list[Tensor] = []
        self._targets: list[Tensor] = []

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        self._outputs.append(outputs.cpu())
        self._targets.append(targets.cpu())

    def figure(self) -> float:
        return _number(self._metric(torch.cat(self._outputs), torch.cat(self._targets)), self._metric)


def _number(value: Any, metric: object) -> float:
    """Returns a metric's value as a number.

    Raises:
        ConfigurationError: If it is not a number.
    """
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        name = getattr(metric, "__name__", type(metric).__name__)
        raise ConfigurationError(f"the metric {name} must return a number, higher is better, not {value!r}") from error
