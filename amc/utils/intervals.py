"""Means of a few values, with intervals."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence

from scipy.special import stdtrit  # scipy.stats has it, too, and takes a second to load


def half_width(values: Sequence[float]) -> float | None:
    """Returns half the 95% interval of a mean by Student's t distribution; None for fewer than two values."""
    if len(values) < 2:
        return None
    quantile = float(stdtrit(len(values) - 1, 0.975))
    return quantile * statistics.stdev(values) / math.sqrt(len(values))


def mean_with_interval(values: Sequence[float], digits: int) -> str:
    """Formats a mean with half its 95% interval: `"91.20 ± 0.31"`; the mean alone for one value, `"-"` for none."""
    if not values:
        return "-"
    half = half_width(values)
    mean = f"{statistics.fmean(values):z.{digits}f}"
    return mean if half is None else f"{mean} ± {half:.{digits}f}"


def paired_differences(values: Iterable[tuple[int, float]], reference: Mapping[int, float]) -> list[float]:
    """Returns values less those of a reference with the same seed.

    Args:
        values: Each with its seed.
        reference: By seed, at least one. For other seeds its mean counts: a rule without a seed runs once, for all.
    """
    mean = statistics.fmean(reference.values())
    return [value - reference.get(seed, mean) for seed, value in values]
