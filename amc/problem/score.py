"""What scoring a network on a data split yields, on all of it or on a part."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Score:
    """How well a network does on a data split.

    Attributes:
        accuracy: Top-1 accuracy in percent, 0 to 100.
        cross_entropy: Mean cross-entropy in nats.
        agreement: Percent of the images that the network classifies as the dense network does; NaN if not measured.
        images: How many images were scored.
    """

    accuracy: float
    cross_entropy: float
    agreement: float = math.nan
    images: int = 0

    def as_dict(self) -> dict[str, float]:
        """Returns the fields by name, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class ImageScores:
    """How a network does on each image, so that two networks can be compared image by image.

    Attributes:
        hits: 1 where the class is right and 0 elsewhere, `(n,)`.
        losses: Cross-entropies in nats, `(n,)`.
        agreements: 1 where the dense network finds the same class and 0 elsewhere, `(n,)`; NaN if not measured.
    """

    hits: NDArray[np.float64]
    losses: NDArray[np.float64]
    agreements: NDArray[np.float64]


@dataclass(frozen=True)
class Stage:
    """A candidate after some of the images.

    Attributes:
        score: Estimates the score of the whole split: measured on the images seen, which are stratified by class, or
            corrected by how a rival does on them and on all.
        optimistic: An upper estimate of the whole split's score, as if the images so far were unlucky; equals `score`
            when all images were seen.
        images: How it does on each image seen; in the order of the split where all were, None where the evaluator does
            not tell.
    """

    score: Score
    optimistic: Score
    images: ImageScores | None = None
