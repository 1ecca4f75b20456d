"""Random orders in which every prefix is a fair sample."""

from __future__ import annotations

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
    due: list[tuple[float, int]] = []
    for label in torch.unique(targets).tolist():
        members = shuffled[targets.cpu()[shuffled] == label].tolist()
        phase = float(torch.rand((), generator=generator))
        due += [((rank + phase) / len(members), index) for rank, index in enumerate(members)]
    due.sort()
    return torch.tensor([index for _, index in due], dtype=torch.int64)
