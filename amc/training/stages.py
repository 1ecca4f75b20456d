"""Scores on a growing number of images: what was measured so far, and what the whole split could still show.

Where the outputs of the best candidate are known, another is compared with it image by image. Both find the same images
hard, so that their difference is known after fewer images than either score.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from amc.data.tasks import CLASSIFICATION
from amc.problem.score import ImageScores, Score, Stage
from amc.training.evaluate import score_logits
from amc.training.strata import Strata

STANDARD_ERRORS = 2.0
"""How many standard errors above the measured value a candidate's score on the whole split may lie."""
PAIRED_STANDARD_ERRORS = 1.0
"""The same where candidates are compared image by image. docs/bench.md shows what this saves, and what it loses."""


def stage_sizes(first: int, images: int) -> list[int]:
    """Returns after how many images a candidate is judged: `first`, half as many more each time, finally all."""
    sizes, size = [], first
    while size < images:
        sizes.append(size)
        size += -(-size // 2)
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
    each = image_scores(logits, targets, reference)
    return Stage(score, optimistic_score(score, each, images), each)


def optimistic_score(score: Score, each: ImageScores, images: int) -> Score:
    """Returns an upper estimate of a candidate's score on the whole split, from some of its images; see `stage_of`.

    Args:
        score: Of the images seen.
        each: These images.
        images: Images of the whole split.
    """
    seen = score.images
    if seen >= images:
        return score
    share_left = _share_left(seen, images)
    with np.errstate(invalid="ignore"):  # losses may be infinite
        spread = float(each.losses.std(ddof=1)) if seen > 1 else math.inf
    return Score(
        accuracy=_raised(score.accuracy, seen, share_left),
        cross_entropy=max(0.0, score.cross_entropy - STANDARD_ERRORS * share_left * spread / math.sqrt(seen)),
        agreement=_raised(score.agreement, seen, share_left),
        images=seen,
    )


def image_scores(logits: Tensor, targets: Tensor, reference: Tensor | None) -> ImageScores:
    """Returns how a network does on each image; see `stage_of` for the arguments."""
    logits, targets = CLASSIFICATION.align(logits, targets)
    predicted, classes = logits.argmax(1), targets if targets.dim() == 1 else targets.argmax(1)
    agreements = predicted.double() * math.nan if reference is None else predicted == reference.to(predicted.device)
    losses = functional.cross_entropy(logits.double(), targets, reduction="none")
    return ImageScores(_numbers(predicted == classes), _numbers(losses), _numbers(agreements))


def paired_stage(stage: Stage, best: ImageScores, strata: Strata) -> Stage:
    """Compares a candidate with the best one, image by image.

    The best one serves as a control variate: what it does on the images seen, against its whole stratum, tells how hard
    these images are, and the candidate's score is corrected by that. Strata count by their shares of the split. The
    standard errors are those of what is left. Hits get half of a hit and of a miss more, so that no sample is taken for
    certain.

    Args:
        stage: The candidate's, with a value for each image seen, in the order of the strata.
        best: The best candidate's images, the whole split.
        strata: The order, and how the split is divided.

    Returns:
        The stage with both scores so estimated; as it is when all images were seen.
    """
    each = stage.images
    assert each is not None
    seen, images = len(each.hits), len(best.hits)
    if seen >= images:
        return stage
    hits = _estimates(100 * each.hits, 100 * best.hits, strata, pseudo=50)
    gains = _estimates(-each.losses, -best.losses, strata)
    agreements = _estimates(100 * each.agreements, 100 * best.agreements, strata, pseudo=50)
    score, optimistic = (
        Score(_percent(hit), _loss(gain), _percent(agreement), seen)
        for hit, gain, agreement in zip(hits, gains, agreements, strict=True)
    )
    return Stage(score, optimistic, each)


@np.errstate(invalid="ignore")
def _estimates(
    candidate: NDArray[np.float64], best: NDArray[np.float64], strata: Strata, pseudo: float = 0.0
) -> tuple[float, float]:
    """Estimates a candidate's mean over the whole split, and how high it may be.

    In a stratum of which nothing was seen it is taken to differ from the best one as it does in the others, and one
    image is taken to say so; where the best one does the same on all images seen, the candidate is taken to go with it.
    Infinite values are certain, and those of the best one correct nothing.

    Args:
        candidate: Its values on the images seen, higher is better, `(n,)`.
        best: The best one's on the whole split, `(N,)`.
        strata: The order in which images are seen, and how the split is divided.
        pseudo: Size of a residual up and one down that are added.
    """
    best = best if np.isfinite(best).all() else np.zeros(len(best))
    numbers = strata.order[: len(candidate)]
    labels, sizes, seen = strata.labels[numbers], strata.sizes(), strata.sizes(numbers)
    counts, shares = np.maximum(seen, 1), sizes * (seen > 0) / sizes[seen > 0].sum()

    def sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.bincount(labels, values, minlength=len(sizes)).astype(np.float64)

    def deviations(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return values - (sums(values) / counts)[labels]

    weights, spread = (shares / counts)[labels], deviations(best[numbers])
    variance = float(weights @ spread**2)
    slope = min(1.0, max(0.0, float(weights @ (spread * deviations(candidate))) / variance)) if variance else 1.0
    whole = np.bincount(strata.labels, best, minlength=len(sizes)) / np.maximum(sizes, 1)
    residuals = candidate - slope * (best[numbers] - whole[labels])
    estimate = float(best.mean() + shares @ (sums(residuals) / counts - whole))
    if not math.isfinite(estimate):
        return estimate, estimate
    squares, freedom = sums(deviations(residuals) ** 2), len(numbers) - np.count_nonzero(seen)
    freedom += 2 if pseudo else -1  # the slope takes one
    if freedom < 1:
        return estimate, math.inf
    pooled = (squares.sum() + 2 * pseudo**2) / freedom  # counts as one more image in every stratum
    errors = (squares + pooled) / counts**2 * (1 - seen / np.maximum(sizes, 1))
    shares = np.where(seen > 0, shares, sizes / len(best))
    return estimate, estimate + PAIRED_STANDARD_ERRORS * math.sqrt(float(shares**2 @ errors))


def _percent(estimate: float) -> float:
    return estimate if math.isnan(estimate) else min(100.0, max(0.0, estimate))


def _loss(gain: float) -> float:
    return gain if math.isnan(gain) else max(0.0, -gain)


def _share_left(seen: int, images: int) -> float:
    return math.sqrt((images - seen) / (images - 1))


def _numbers(values: Tensor) -> NDArray[np.float64]:
    return values.double().cpu().numpy()


def _raised(percent: float, seen: int, share_left: float) -> float:
    """Returns a share in percent, raised by its standard errors; NaN stays."""
    if math.isnan(percent):
        return percent
    share = (percent / 100 * seen + 2) / (seen + 4)
    error = 100 * math.sqrt(share * (1 - share) / (seen + 4))
    return min(100.0, percent + STANDARD_ERRORS * share_left * error)
