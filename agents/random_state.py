"""Keeping the caller's random state."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Restores the global generators of Python, NumPy and PyTorch after the context."""
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else None  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)


@contextmanager
def isolated_random_state(seed: int) -> Iterator[None]:
    """Seeds the global generators of Python, NumPy and PyTorch within the context, and restores them after it.

    Stable-Baselines3 draws from these generators (the replay's batches, the networks' first weights), so a search
    that is to be deterministic and to leave its caller's random state alone must run inside this.

    Args:
        seed: The seed within the context.
    """
    with kept_random_state():
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        yield
