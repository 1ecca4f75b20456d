"""Random numbers of the processes that train beside the first one."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import torch

from amc.runtime.collectives import Collectives


class OwnDraws:
    """Gives every process but the first random numbers of its own: dropout must not repeat itself in every part.

    They are seeded by the number of the step, so that a training that is resumed draws the same without keeping them.
    The first process draws what it draws alone.
    """

    def __init__(self, seed: int, collectives: Collectives) -> None:
        """Takes the seed of the training."""
        self._seed, self._rank = seed, collectives.rank

    def begin_epoch(self, epoch: int) -> None:
        """Seeds Python's, NumPy's and PyTorch's generators for what an epoch draws."""
        if self._rank:
            seed = self._number(epoch, 0)
            random.seed(seed)
            np.random.seed(seed % 2**32)
            torch.manual_seed(seed)

    def begin_step(self, epoch: int, step: int) -> None:
        """Seeds PyTorch's generators for what a step draws, the loading of its batch included."""
        if self._rank:
            torch.manual_seed(self._number(epoch, step))

    def _number(self, epoch: int, step: int) -> int:
        text = f"{self._seed} {self._rank} {epoch} {step}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
