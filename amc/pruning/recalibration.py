"""Batch norms of a candidate, re-estimated on a few calibration images before it is scored.

What is cut early shifts what all later layers see, and the statistics of the dense network's batch norms no longer fit.
The sequential reconstruction of the chosen policy makes up for that; a candidate that is scored without it looks worse
than it is, and most of all where the cuts are spread unevenly. One pass over a few hundred images brings the ranking of
candidates close to that of the delivered networks (Li et al., *EagleEye*, ECCV 2020, arXiv:2007.02491).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from amc.pruning.folding import Fold
from amc.pruning.regressions import BATCH_NORMS, has_running_mean

_POSITIONS = 16  # along each axis of an activation: enough for a mean and a variance

Lookup = Callable[[str], Tensor | None]
"""Returns a tensor of the candidate as it was before folding, by name; None where there is none."""


def recalibrated(network: nn.Module, folds: Mapping[str, Fold], tensor: Lookup, images: Tensor) -> dict[str, Tensor]:
    """Runs a candidate once, each batch norm with the statistics of these images, and returns what that changes.

    Batch norms that were folded into the layer ahead of them change that layer's weight and bias.

    Args:
        network: The candidate, its batch norms folded; it is left as it is.
        folds: The folded batch norms, by layer.
        tensor: Looks up the candidate's tensors.
        images: Normalised calibration images `(N, C, H, W)`, in the network's form.

    Returns:
        New values of the network's tensors, by name.
    """
    changes: dict[str, Tensor] = {}
    hooks = [
        network.get_submodule(layer).register_forward_hook(_folded(fold, tensor, changes))
        for layer, fold in folds.items()
    ]
    hooks += [
        module.register_forward_pre_hook(_standing(name, changes))
        for name, module in network.named_modules()
        if isinstance(module, BATCH_NORMS) and has_running_mean(module)
    ]
    with _removed(hooks):
        network(images)
    return changes


def _folded(fold: Fold, tensor: Lookup, changes: dict[str, Tensor]) -> Callable[[nn.Module, object, Tensor], Tensor]:
    """Returns the hook that renormalises the output of a layer that a batch norm was folded into."""

    def hook(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        mean, variance = _statistics(output, -1 if isinstance(module, nn.Linear) else 1)
        scale = fold.scale(tensor).to(mean)
        gain, shift = (tensor(f"{fold.norm}.{name}") for name in ("weight", "bias"))
        wanted = (variance / scale.square() + fold.eps).rsqrt()
        wanted = wanted if gain is None else wanted * gain.to(mean)
        factor = torch.where(scale == 0, torch.ones_like(scale), wanted / scale)
        offset = -mean * factor if shift is None else shift.to(mean) - mean * factor
        weight, bias = module.weight, module.bias
        assert isinstance(weight, Tensor)
        assert isinstance(bias, Tensor)
        changes[fold.weight] = (weight.float() * factor.reshape(-1, *[1] * (weight.dim() - 1))).to(weight)
        changes[f"{fold.layer}.bias"] = (bias.float() * factor + offset).to(bias)
        form = [1] * output.dim()
        form[-1 if isinstance(module, nn.Linear) else 1] = -1
        return output * factor.to(output).reshape(form) + offset.to(output).reshape(form)

    return hook


def _standing(name: str, changes: dict[str, Tensor]) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    """Returns the hook that gives a batch norm the statistics of its input; they stay until others are set."""

    def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        module.running_mean, module.running_var = _statistics(inputs[0], 1)
        changes[f"{name}.running_mean"], changes[f"{name}.running_var"] = module.running_mean, module.running_var

    return hook


def _statistics(activation: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Returns mean and variance of every channel, over all else; of large images, over an even grid of positions."""
    if axis == 1:
        for along in range(2, activation.dim()):
            step = max(1, activation.shape[along] // _POSITIONS)
            activation = activation[(slice(None),) * along + (slice(None, None, step),)]
    others = [along for along in range(activation.dim()) if along != axis % activation.dim()]
    variance, mean = torch.var_mean(activation.float(), others, correction=0)
    return mean, variance


@contextmanager
def _removed(hooks: list[torch.utils.hooks.RemovableHandle]) -> Iterator[None]:
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
