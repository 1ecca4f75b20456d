"""Batch norms of a candidate, re-estimated on a few images before it is scored.

An early cut shifts the inputs of all later layers, and the statistics of the dense network's batch norms no longer fit.
The sequential reconstruction of the chosen policy makes up for that; a candidate that is scored without it looks worse
than it is, most of all where the cuts are uneven. One pass over a few hundred images brings the ranking of candidates
close to that of the delivered networks (Li et al., *EagleEye*, ECCV 2020, arXiv:2007.02491).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from amc.pruning.batch_norm import is_affine, is_batch_norm
from amc.pruning.folding import Fold
from amc.runtime.call import call, inference, input_of, named_tensors
from amc.runtime.hooks import hooked

Lookup = Callable[[str], Tensor | None]
"""Returns a tensor of the candidate by name, as it is without folding; None where there is none."""
_Take = Callable[[str, Tensor, float], Tensor]


def batch_statistics(
    network: nn.Module, folds: Mapping[str, Fold], tensor: Lookup, images: Tensor
) -> tuple[dict[str, Tensor], Any]:
    """Runs a candidate once, every batch norm with the statistics of these images.

    Args:
        network: The candidate. Where a batch norm was folded into the layer ahead of it, that layer has its own weights
            again, but the batch norm is still missing.
        folds: The folded batch norms, by layer.
        tensor: Looks up the gains and shifts of batch norms.
        images: Normalised images `(N, C, H, W)`, in the network's form.

    Returns:
        Running means and (unbiased) variances by name, in float32 (in float64 where the network is), and what the
        network returned: what it returns with these statistics, but for the variances, which are biased in this pass.
    """
    found: dict[str, Tensor] = {}

    def normalised(norm: str, values: Tensor, eps: float) -> Tensor:
        like = torch.zeros((), device=values.device, dtype=torch.promote_types(values.dtype, torch.float32))
        mean, variance = (like.new_zeros(values.shape[1]) for _ in range(2))
        gain, shift = (_as(tensor(f"{norm}.{name}"), like) for name in ("weight", "bias"))
        found[f"{norm}.running_mean"], found[f"{norm}.running_var"] = mean, variance
        return functional.batch_norm(values, mean, variance, gain, shift, training=True, momentum=1.0, eps=eps)

    hooks = [
        network.get_submodule(layer).register_forward_hook(_behind(fold, normalised)) for layer, fold in folds.items()
    ]
    for name, module in network.named_modules():
        if not is_batch_norm(module):
            continue
        if is_affine(module):
            hooks.append(module.register_forward_hook(_in_place_of(name, module.eps, normalised), with_kwargs=True))
        else:
            hooks.append(module.register_forward_pre_hook(_ahead_of(name, normalised, found), with_kwargs=True))
    with hooked(hooks):
        outputs = call(network, images)
    return found, outputs


def reestimate_batch_norms(network: nn.Module, images: Any) -> None:
    """Gives the batch norms of a network, in place, the statistics of some inputs.

    Args:
        network: The network, with all its batch norms.
        images: Calibration inputs, at least two: a tensor, or `amc.runtime.many_inputs.Inputs`.
    """
    tensors = {name: tensor.detach() for name, tensor in named_tensors(network).items()}
    with inference(network):
        found, _ = batch_statistics(network, {}, tensors.get, images)
    for name, values in found.items():
        tensors[name].copy_(values)


def _behind(fold: Fold, normalised: _Take) -> Callable[[nn.Module, object, Tensor], Tensor]:
    """Returns the hook that does the work of a batch norm that was folded away."""
    return lambda module, inputs, output: normalised(fold.norm, output, fold.eps)


def _in_place_of(
    norm: str, eps: float, normalised: _Take
) -> Callable[[nn.Module, tuple[Tensor, ...], dict[str, Tensor], Tensor], Tensor]:
    """Returns the hook that replaces the output of a batch norm."""
    return lambda module, inputs, named, output: normalised(norm, input_of(inputs, named), eps)


def _ahead_of(
    norm: str, normalised: _Take, found: Mapping[str, Tensor]
) -> Callable[[nn.Module, tuple[Tensor, ...], dict[str, Tensor]], None]:
    """Returns the hook that gives a batch norm which does more than that, such as an activation, its new statistics."""

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
        assert is_batch_norm(module)
        assert module.running_mean is not None
        values = input_of(inputs, named)
        normalised(norm, values, module.eps)  # for the statistics alone
        count = values.numel() / values.shape[1]
        biased = found[f"{norm}.running_var"] * ((count - 1) / count)  # what training mode divides by
        dtype = module.running_mean.dtype
        module.running_mean, module.running_var = found[f"{norm}.running_mean"].to(dtype), biased.to(dtype)

    return hook


def _as(tensor: Tensor | None, like: Tensor) -> Tensor | None:
    return None if tensor is None else tensor.to(like)
