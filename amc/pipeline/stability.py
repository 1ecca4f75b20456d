"""Pruning stability: how much of the accuracy is left right after pruning."""

from __future__ import annotations


def pruning_stability(before: float, after: float) -> float | None:
    """Returns the share of the accuracy that one pruning leaves, before any training, in percent.

    Bartoldson et al. 2020 (arXiv:1906.03728), section 2: instability is the accuracy lost over the accuracy before, and
    stability is 1 minus that; above 100 where pruning helps. Here a refit counts as pruning, and training does not.

    Args:
        before: Accuracy of the network before pruning, or another measure for which higher is better.
        after: The same after pruning.

    Returns:
        The stability; None where `before` is not above zero, so that there is no share of it.
    """
    return 100 * after / before if before > 0 else None
