"""Unwrapping a network, and rejecting anything that is not a plain network, in one place."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from amc.errors import ModelError
from amc.runtime.call import named_tensors
from amc.runtime.finite import holds_numbers

_WRAPPERS = {
    "OptimizedModule": "_orig_mod",  # torch.compile
    "DataParallel": "module",
    "DistributedDataParallel": "module",
    "AveragedModel": "module",  # a moving average of weights
}
_QUANTISED = ("quantized", "torchao", "bitsandbytes", "torch.ao.nn.qat", "torch.ao.quantization.fake_quantize")


def plain_network(model: nn.Module) -> nn.Module:
    """Returns the network that wrappers hold (see `unwrapped`), and checks that it can be worked on.

    Raises:
        ModelError: If it is scripted, exported, quantised or sharded, or a tensor is missing or not finite.
    """
    if torch.is_inference_mode_enabled():
        raise ModelError("a network cannot be worked on in torch.inference_mode(); leave it, torch.no_grad() may stay")
    model = unwrapped(model)
    for name, module in model.named_modules():
        _check_module(name, module)
    _check_weights(model)
    return model


def unwrapped(model: nn.Module) -> nn.Module:
    """Returns the network that wrappers hold, itself rid of wrappers.

    `torch.compile`, `DataParallel`, `DistributedDataParallel` and `AveragedModel` are taken off, in place where a part
    of the network is wrapped; a module that was compiled in place runs its original code from then on. Masks of
    `torch.nn.utils.prune` become zeros in the weights.

    Raises:
        ModelError: If it is no network.
    """
    if not isinstance(model, nn.Module):
        raise ModelError(f"the network must be a torch.nn.Module, not {_kind(model)}")
    model = _inside(model)
    for module in list(model.modules()):
        for key, child in list(module.named_children()):
            if (inner := _inside(child)) is not child:
                setattr(module, key, inner)
    for module in model.modules():
        if getattr(module, "_compiled_call_impl", None) is not None:
            module._compiled_call_impl = None
        _bake_masks(module)
    return model


def _kind(given: object) -> str:
    """Describes what is no network: of a class its name, which lacks the call that makes one."""
    if isinstance(given, type):
        return f"the class {given.__name__}: give an instance, as in {given.__name__}()"
    return f"a {type(given).__name__}"


def _bake_masks(module: nn.Module) -> None:
    """Multiplies the masks of `torch.nn.utils.prune` into the weights, which are plain parameters then."""
    masks = [hook for hook in module._forward_pre_hooks.values() if isinstance(hook, prune.BasePruningMethod)]
    for mask in masks:
        prune.remove(module, mask._tensor_name)  # type: ignore[no-untyped-call]


def _check_weights(model: nn.Module) -> None:
    """Checks that all weights are there, plain and finite.

    Raises:
        ModelError: If a tensor is not, naming it.
    """
    buffers = dict(model.named_buffers())
    for name, tensor in named_tensors(model).items():
        if nn.parameter.is_lazy(tensor):
            raise ModelError(f"weights must exist before tracing: {name!r} is lazy; run the network once before")
        if tensor.is_inference():
            raise ModelError(
                f"weights must be able to take gradients: {name!r} was made in torch.inference_mode(); build the "
                "network outside of it"
            )
        if tensor.is_meta:
            raise ModelError(f"weights must exist before tracing: {name!r} is on the meta device; load the weights")
        if not _is_plain(tensor):
            kind = "quantised" if tensor.is_quantized else f"a {type(tensor.data).__name__}"
            raise ModelError(
                f"weights must be plain tensors: {name!r} is {kind}; give the whole network in floating point"
            )
        if not holds_numbers(name, tensor, buffers):
            raise ModelError(f"weights must be finite: {name!r} holds NaN or infinity; check the weights file")


def _inside(model: nn.Module) -> nn.Module:
    """Returns what the wrappers around a module, however many, hold."""
    while (place := _WRAPPERS.get(type(model).__name__)) is not None and isinstance(model, nn.Module):
        inner = getattr(model, place, None)
        if not type(model).__module__.startswith("torch.") or not isinstance(inner, nn.Module):
            break
        model = inner
    return model


def _check_module(name: str, module: nn.Module) -> None:
    """Rejects a part of a network that is not a Python module in floating point.

    Raises:
        ModelError: If it is scripted, exported, quantised or sharded.
    """
    where = f": {name!r} is one" if name else ""
    kind = type(module)
    if isinstance(module, torch.jit.ScriptModule):
        raise ModelError(
            f"the network must be a Python module, not a scripted or traced one{where}; give what was scripted"
        )
    if isinstance(module, torch.fx.GraphModule) and "_guards_fn" in dict(module.named_children()):
        raise ModelError(f"the network must be a Python module, not an exported one{where}; give what was exported")
    if any(part in kind.__module__ for part in _QUANTISED):
        raise ModelError(
            f"the network must be in floating point, but {name or 'it'!r} is a quantised {kind.__name__}; compress the "
            "network before it is quantised, and quantise the smaller one"
        )
    if kind.__name__ == "FullyShardedDataParallel":
        raise ModelError(f"the network must be whole, not sharded{where}; load its full weights into the plain network")


def _is_plain(tensor: Tensor) -> bool:
    """Returns whether a tensor holds its values itself, in floating point or as they are."""
    return not tensor.is_quantized and type(tensor.data) is Tensor
