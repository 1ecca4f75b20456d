"""Scores on a growing number of images: what was measured so far, and what the whole split could still show."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional

from amc.problem.score import Score, Stage
from amc.training.evaluate import score_logits

STANDARD_ERRORS = 2.0
"""How many standard errors above the measured value a candidate's score on the whole split may lie."""


def stage_sizes(first: int, images: int) -> list[int]:
    """Returns the numbers of images after which a candidate is judged: `first`, doubled each time, and finally all."""
    sizes, size = [], first
    while size < images:
        sizes.append(size)
        size *= 2
    return [*sizes, images]


def stage_of(logits: Tensor, targets: Tensor, reference: Tensor | None, images: int) -> Stage:
    """Computes the stage of a candidate.

    The standard errors are those of a sample without replacement; two hits and two misses are added to shares (Agresti
    and Coull), so that no sample counts as certain.

    Args:
        logits: Of the images seen, `(n, classes)`.
        targets: Their true classes, `(n,)`.
        reference: The dense network's classes, `(n,)`, or None.
        images: Images of the whole split.
    """
    score = score_logits(logits, targets, reference)
    seen = score.images
    if seen >= images:
        return Stage(score, score)
    share_left = math.sqrt((images - seen) / (images - 1))
    losses = functional.cross_entropy(logits.double(), targets, reduction="none")
    spread = float(losses.std()) if seen > 1 else math.inf
    optimistic = Score(
        accuracy=_raised(score.accuracy, seen, share_left),
        cross_entropy=max(0.0, score.cross_entropy - STANDARD_ERRORS * share_left * spread / math.sqrt(seen)),
        agreement=_raised(score.agreement, seen, share_left),
        images=seen,
    )
    return Stage(score, optimistic)


def _raised(percent: float, seen: int, share_left: float) -> float:
    """Returns a share in percent, raised by its standard errors; NaN stays."""
    if math.isnan(percent):
        return percent
    share = (percent / 100 * seen + 2) / (seen + 4)
    error = 100 * math.sqrt(share * (1 - share) / (seen + 4))
    return min(100.0, percent + STANDARD_ERRORS * share_left * error)
