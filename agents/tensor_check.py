"""Whether the tensors of a trained agent can be used: fused optimisers trust the shapes that they are given."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from amc.errors import CheckpointError

Tensors = Mapping[str, torch.Tensor]
_RANGES = {"actions": (-1.0, 1.0), "dones": (0.0, 1.0), "timeouts": (0.0, 1.0)}


def check_networks(expected: Tensors, found: Tensors) -> None:
    """Checks the weights of networks.

    Args:
        expected: Tensors by name, of which shape and type count.
        found: Those of the file.

    Raises:
        CheckpointError: If one is missing, is one too many, has another shape or type, or is not finite.
    """
    for name in expected.keys() ^ found.keys():
        raise CheckpointError(f"an agent must hold the tensors of its networks and no others, which {name!r} breaks")
    for name, tensor in expected.items():
        check_tensor(name, found[name], tensor.shape, tensor.dtype)


def check_moments(optimizer: torch.optim.Optimizer, found: Mapping[int, Tensors]) -> None:
    """Checks the moments of an Adam optimiser, by the index of their parameter.

    Raises:
        CheckpointError: If they are not of the parameters' shapes and types, or not what Adam has.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, moments in found.items():
        if not 0 <= index < len(parameters) or moments.keys() != {"step", "exp_avg", "exp_avg_sq"}:
            raise CheckpointError(f"an agent must hold Adam's moments of its parameters, and those of {index} are not")
        check_tensor("step", moments["step"], torch.Size(()), torch.float32, low=0.0)
        shape, dtype = parameters[index].shape, parameters[index].dtype
        check_tensor("exp_avg", moments["exp_avg"], shape, dtype)
        check_tensor("exp_avg_sq", moments["exp_avg_sq"], shape, dtype, low=0.0)


def check_replay(expected: Tensors, found: Tensors, decisions: int) -> None:
    """Checks a replay of whole episodes.

    Args:
        expected: Its arrays by name; their shapes but for the first axis, and their types count.
        found: Those of the file.
        decisions: Steps of an episode.

    Raises:
        CheckpointError: If an array is missing, is one too many, or does not fit.
    """
    for name in expected.keys() ^ found.keys():
        raise CheckpointError(f"an agent must hold the arrays of its replay and no others, which {name!r} breaks")
    held = len(found["rewards"]) if found["rewards"].dim() else 0
    if held % decisions:
        raise CheckpointError(f"an agent's replay must hold whole episodes of {decisions} steps, not {held} steps")
    for name, array in expected.items():
        low, high = _RANGES.get(name, (None, None))
        check_tensor(f"replay.{name}", found[name], (held, *array.shape[1:]), array.dtype, low=low, high=high)


def check_tensor(
    name: str,
    tensor: torch.Tensor,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    *,
    low: float | None = None,
    high: float | None = None,
) -> None:
    """Checks one tensor.

    Raises:
        CheckpointError: If shape or type are others, or a value is not finite or out of its range.
    """
    if tuple(tensor.shape) != tuple(shape) or tensor.dtype != dtype:
        raise CheckpointError(
            f"an agent's {name} must have shape {tuple(shape)} and type {dtype}, "
            f"not {tuple(tensor.shape)} and {tensor.dtype}"
        )
    if not tensor.numel():
        return
    smallest, largest = (float(end) for end in tensor.aminmax())
    if not (torch.isfinite(torch.tensor([smallest, largest])).all()):
        raise CheckpointError(f"an agent's {name} must be finite, and holds NaN or infinite values")
    if (low is not None and smallest < low) or (high is not None and largest > high):
        raise CheckpointError(f"an agent's {name} must lie in its range, and goes from {smallest:g} to {largest:g}")
