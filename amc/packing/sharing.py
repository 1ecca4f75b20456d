"""Weight sharing: the weights of a layer take only a few values, found by k-means (Han et al. 2016, arXiv:1510.00149).

Section 3: k clusters of the weights that are not zero, minimising the sum of squared distances (Eq. 2); every weight
becomes the centroid of its cluster. Where the centroids start matters (section 3.2); linear does best in the paper.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from amc.utils.registry import Registry

Values = NDArray[np.float64]


class Initialisation(Protocol):
    """Chooses where centroids start."""

    def __call__(self, values: Values, count: int, generator: np.random.Generator) -> Values:
        """Returns `count` rising numbers within the values, shape `(count,)`; what is drawn comes from `generator`."""


INITIALISATIONS: Registry[Callable[..., Initialisation]] = Registry(
    "initialisation", "amc.initialisations", method="__call__"
)
"""By name, what makes an initialisation; its options are keyword arguments."""

_MOST_STEPS = 300


class Linear:
    """Spaces the centroids evenly from the smallest value to the largest: large weights, which are few, count."""

    def __call__(self, values: Values, count: int, generator: np.random.Generator) -> Values:
        """Returns where the centroids start; see `Initialisation`."""
        return np.linspace(values.min(), values.max(), count)


class Density:
    """Spaces the centroids by the distribution function: as many values between any two."""

    def __call__(self, values: Values, count: int, generator: np.random.Generator) -> Values:
        """Returns where the centroids start; see `Initialisation`."""
        return np.quantile(values, (np.arange(count) + 0.5) / count)


class Forgy:
    """Draws the centroids from the values."""

    def __call__(self, values: Values, count: int, generator: np.random.Generator) -> Values:
        """Returns where the centroids start; see `Initialisation`."""
        return np.sort(generator.choice(values, size=count, replace=len(values) < count))


INITIALISATIONS.register("linear", Linear, "evenly from the smallest weight to the largest (the paper's choice)")
INITIALISATIONS.register("density", Density, "evenly by the distribution function of the weights")
INITIALISATIONS.register("random", Forgy, "weights drawn at random (Forgy)")


def cluster(values: Values, centroids: Values) -> tuple[Values, NDArray[np.int64]]:
    """Moves centroids to the means of what is nearest to them, until nothing changes (Lloyd's k-means, on a line).

    Args:
        values: What to cluster.
        centroids: Where the centroids start.

    Returns:
        The centroids to which values belong, rising, and the number of its centroid for each value.
    """
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    centroids = np.sort(centroids)
    edges = np.zeros(0, np.int64)
    for _ in range(_MOST_STEPS):
        found = np.searchsorted(ordered, (centroids[1:] + centroids[:-1]) / 2)
        if np.array_equal(found, edges) and len(edges):
            break
        edges = found
        bounds = np.concatenate([[0], edges, [len(ordered)]])
        sizes = np.diff(bounds)
        means = np.diff(sums[bounds]) / np.maximum(sizes, 1)
        centroids = np.sort(np.where(sizes > 0, means, centroids))
    labels = np.searchsorted((centroids[1:] + centroids[:-1]) / 2, values, side="right")
    used, members = np.unique(labels, return_inverse=True)
    return centroids[used], members.reshape(-1)


def shared(weight: Tensor, bits: int, initialisation: Initialisation, seed: int = 0) -> Tensor:
    """Returns a tensor whose elements that are not zero have at most `2 ** bits` values, zeros staying zero.

    Args:
        weight: Of any shape.
        bits: Bits of a code.
        initialisation: Where the centroids start.
        seed: Of what is drawn.
    """
    flat = weight.detach().flatten()
    stays = flat != 0
    values = flat[stays].double().cpu().numpy()
    if len(np.unique(values)) <= 1 << bits:
        return weight.detach().clone()
    start = initialisation(values, 1 << bits, np.random.default_rng(seed))
    centroids, labels = cluster(values, start)
    result = torch.zeros_like(flat)
    result[stays] = torch.from_numpy(centroids[labels]).to(flat)
    return result.reshape(weight.shape)
