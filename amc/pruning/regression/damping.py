"""How much a ridge adds to the diagonal of a Gram matrix."""

from __future__ import annotations

import torch
from torch import Tensor

_LARGEST_MEAN = 4.0
"""Times the variance of the features that their mean square counts at most. In a ResNet it is 1 to 3 times. A ridge in
the variance alone is no better there: uniform allocations of ResNet-20 score 0.786 in place of 0.798 (a tenth of the
weights) and 0.788 in place of 0.793 (half of the FLOPs)."""
_ROUNDING = 1e-7
"""Of the mean square: what its rounding may leave of features that are constant."""


def damping_of(ridge: float, gram: Tensor, mean: Tensor | None) -> Tensor:
    """Returns the ridge in the unit of a Gram matrix.

    With an intercept the mean of the features plays no part in the regression, and one far from zero must not make the
    ridge as large as its square: this counts for no more than `_LARGEST_MEAN` times the variance.

    Args:
        ridge: Relative to the mean of the diagonal.
        gram: Second moments of the features, `(..., d, d)`.
        mean: Their means, `(..., d)`, where there is an intercept; else None.

    Returns:
        What to add to the diagonal, `(...)`, above zero.
    """
    power, tiny = gram.diagonal(dim1=-2, dim2=-1).mean(-1), torch.finfo(torch.float32).tiny
    if mean is None:
        return ridge * power + tiny
    spread = (power - mean.square().mean(-1)).clamp_min(0)
    return torch.maximum(ridge * torch.minimum(power, _LARGEST_MEAN * spread), rounding_of(power)) + tiny


def rounding_of(power: Tensor) -> Tensor:
    """Returns the least to add to the diagonal: features that are constant must not be told apart by their rounding.

    A ridge relative to what rounding leaves of them is no ridge. The Gram matrix need not even be positive definite.

    Args:
        power: Mean square of the features, their mean included, `(...)`.
    """
    return _ROUNDING * power
