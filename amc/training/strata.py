"""Which images tell a candidate from the best one: strata by how sure the best is of them.

Where the best network is sure of the class, a candidate that is nearly as good finds the same; two such networks differ
on images of which the best is in doubt. So more of these are seen, and earlier, and each stratum counts by its share of
the split: stratified sampling with Neyman's allocation (Cochran, "Sampling Techniques", 1977, section 5.5).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

STRATA = 6
_LEAST_SPREAD = 0.1
"""Standard deviation that a stratum is given at least, so that images of all strata are seen."""


@dataclass(frozen=True)
class Strata:
    """The images of a split, in classes of doubt and in the order in which candidates see them.

    Attributes:
        order: Numbers of the images, `(N,)`.
        labels: The stratum of each image as it lies in the split, `(N,)`.
    """

    order: NDArray[np.int64]
    labels: NDArray[np.int64]

    def sizes(self, numbers: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """Returns how many images every stratum has, of the whole split or of the images with these numbers."""
        return np.bincount(self.labels if numbers is None else self.labels[numbers], minlength=STRATA)


def strata_of(losses: NDArray[np.float64], kept: int) -> Strata:
    """Sorts images by the doubt of the best network, and says in which order to see them.

    Strata are of equal size. In each of them the images keep their order; how fast they are taken is proportional to
    the standard deviation of a hit, `sqrt(p (1 - p))` with the probability `p` that the best gives the true class.

    Args:
        losses: Cross-entropies of the best network, in nats, `(N,)`.
        kept: How many images come first as they are.
    """
    images = len(losses)
    labels = np.empty(images, dtype=np.int64)
    labels[np.argsort(losses, kind="stable")] = np.arange(images) * STRATA // images
    chance = np.nan_to_num(np.exp(-losses))
    due = np.empty(images)
    for stratum in range(STRATA):
        inside = np.flatnonzero(labels == stratum)
        later = inside[inside >= kept]
        spread = np.sqrt((chance * (1 - chance))[inside].mean()) if len(inside) else 1.0
        due[later] = (np.arange(len(later)) + 0.5) / max(spread, _LEAST_SPREAD)
    due[:kept] = -1
    return Strata(np.argsort(due, kind="stable"), labels)
