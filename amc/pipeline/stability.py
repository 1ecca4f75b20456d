"""Pruning stability: how much of the accuracy is left at the moment of pruning."""

from __future__ import annotations


def pruning_stability(before: float, after: float) -> float | None:
    """Returns the share of the accuracy that one pruning leaves, before any training, in percent.

    Bartoldson et al. 2020 (arXiv:1906.03728), section 2: instability is the accuracy lost over the accuracy before,
    and stability what it lacks of 1; above 100 where pruning gains. Here a refit is part of the pruning, and training
    is not.

    Args:
        before: Accuracy of the network that is pruned, or another measure of which more is better.
        after: The same after pruning.

    Returns:
        The stability; None where the measure before is not above zero, so that there is no share of it.
    """
    return 100 * after / before if before > 0 else None
