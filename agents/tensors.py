"""The tensors of networks and optimisers under flat names, as a file holds them."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from amc.errors import CheckpointError


def flat_optimizer(name: str, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Returns the moments of an optimiser by `NAME.INDEX.KEY`, the index that of the parameter."""
    return {
        f"{name}.{index}.{key}": value
        for index, moments in optimizer.state_dict()["state"].items()
        for key, value in moments.items()
    }


def moments_of(tensors: Mapping[str, torch.Tensor]) -> dict[int, dict[str, torch.Tensor]]:
    """Returns an optimiser's tensors by parameter.

    Raises:
        CheckpointError: If a name is none of an optimiser's.
    """
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        if not (index.isascii() and index.isdecimal() and len(index) < 6):
            raise CheckpointError(f"an agent must hold Adam's moments by parameter, which {key!r} does not name")
        moments.setdefault(int(index), {})[name] = value.clone()  # the optimiser changes them in place
    return moments


def restore_moments(optimizer: torch.optim.Optimizer, moments: dict[int, dict[str, torch.Tensor]]) -> None:
    """Puts moments, by parameter, into an optimiser; its settings stay."""
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})


def part_named(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """Returns the tensors whose names begin with a prefix, without it."""
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
