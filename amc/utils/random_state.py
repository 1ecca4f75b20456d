"""The global random generators of Python, NumPy and PyTorch: seeding, keeping and restoring them together."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def random_states() -> dict[str, Any]:
    """Returns the states of the global generators, of tensors, numbers and plain containers alone."""
    algorithm, key, *rest = np.random.get_state()
    cuda = torch.cuda.is_available() and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return {
        "python": random.getstate(),
        "numpy": (algorithm, torch.from_numpy(np.asarray(key, dtype=np.int64)), *rest),
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if cuda else [],
    }


def set_random_states(states: Mapping[str, Any]) -> None:
    """Restores what `random_states` returned; of accelerators, only those present."""
    algorithm, key, *rest = states["numpy"]
    random.setstate(states["python"])
    np.random.set_state((algorithm, key.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states["cpu"])
    for index, state in enumerate(states["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(state, index)


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Restores the global generators after the context."""
    states = random_states()
    try:
        yield
    finally:
        set_random_states(states)


@contextmanager
def isolated_random_state(seed: int) -> Iterator[None]:
    """Seeds the global generators within the context, and restores them after it.

    Stable-Baselines3 draws from them (the replay's batches, the networks' first weights), and so do dropout and the
    augmentation of the user's data sets: anything that must be deterministic, and leave its caller's random state
    alone, must run inside this.

    Args:
        seed: The seed within the context.
    """
    with kept_random_state():
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        yield
