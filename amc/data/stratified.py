"""Random orders in which every prefix is a fair sample."""

from __future__ import annotations

import numpy
import torch
from torch import Tensor


def stratified_order(targets: Tensor, seed: int) -> Tensor:
    """Orders items at random so that every prefix has the classes in nearly their overall shares.

    Args:
        targets: `(N,)`, int64: the class of each item. Targets of any other kind have no classes to keep the shares of:
            every order is as fair as another.
        seed: Seed of the order.

    Returns:
        `(N,)`, int64: a permutation of the positions. Of K classes, one with a share p of all images occurs among the
        first n between p * (n - K) - 1 and p * (n + K) + 1 times.
    """
    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(len(targets), generator=generator)
    if targets.dim() != 1 or targets.is_floating_point():
        return shuffled
    # The k-th image of a class with m images is due at (k + u) / m of the whole, u a random phase of the class.
    classes = targets.cpu()[shuffled]
    due = torch.empty(len(shuffled), dtype=torch.float64)
    for label in torch.unique(classes).tolist():
        members = (classes == label).nonzero()[:, 0]
        phase = float(torch.rand((), generator=generator))
        due[members] = (torch.arange(len(members), dtype=torch.float64) + phase) / len(members)
    return shuffled[torch.from_numpy(numpy.lexsort((shuffled.numpy(), due.numpy())))]
