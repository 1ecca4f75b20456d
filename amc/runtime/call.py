"""Running a network on an example of any form: a tensor, a tuple of positional arguments, or a mapping."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from amc.runtime.many_inputs import Inputs

ExampleInput = Tensor | Sequence[Any] | Mapping[str, Any]
"""One input of the network: a tensor, a tuple of positional or a mapping of keyword arguments."""


def call(model: nn.Module, example_input: ExampleInput | Inputs) -> Any:
    """Runs a network on an example, or on many inputs of any structure."""
    if isinstance(example_input, Inputs):
        return call(model, example_input.value)
    if isinstance(example_input, Tensor):
        return model(example_input)
    if isinstance(example_input, Mapping):
        return model(**example_input)
    return model(*example_input)


def input_of(inputs: Sequence[Any], named: Mapping[str, Any]) -> Tensor:
    """Returns the input of a layer such as a convolution, positional or by keyword, as its hooks see it."""
    tensor: Tensor = inputs[0] if inputs else named["input"]
    return tensor


def on_device(value: Any, device: torch.device) -> Any:
    """Returns an example input with all its tensors on a device."""
    return tree_map(lambda item: item.to(device) if isinstance(item, Tensor) else item, value)


_CACHES = ("past_key_values", "cache")
"""What language models return for their own next call: not an output for the caller, and narrower after a cut."""


def tensors_in(value: Any) -> list[Tensor]:
    """Returns all tensors in nested tuples, lists, mappings and plain objects, such as a network's output.

    Caches of keys and values, which language models return beside it, are left out.
    """
    return list(_walk(value, set()))


def _walk(value: Any, seen: set[int]) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
        return
    if id(value) in seen or isinstance(value, (str, bytes, type, nn.Module)):
        return
    seen.add(id(value))
    if isinstance(value, Mapping):
        children = [child for name, child in value.items() if name not in _CACHES or isinstance(child, Tensor)]
    elif isinstance(value, (tuple, list, set, frozenset)):
        children = list(value)
    else:
        children = list(getattr(value, "__dict__", {}).values())
    for child in children:
        yield from _walk(child, seen)


def move(model: nn.Module, *, memory_format: torch.memory_format | None = None, **where: Any) -> None:
    """Moves a network in place, as `nn.Module.to` does, but keeps shared buffers shared.

    Args:
        model: The network.
        memory_format: Layout of tensors with four axes; all others, including those of 3-D convolutions, keep theirs.
        where: Device and number format.
    """
    places = buffer_places(model).values()
    model.to(**where)
    for (first, name), *others in places:
        for module, key in others:
            module._buffers[key] = first._buffers[name]
    if memory_format is not None:
        for tensor in named_tensors(model).values():
            if tensor.dim() == 4:
                tensor.data = tensor.data.to(memory_format=memory_format)


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Returns a network's parameters and buffers by name, including those that its `state_dict` leaves out."""
    return dict(model.named_parameters()) | dict(model.named_buffers())


def tensor_bytes(model: nn.Module) -> int:
    """Returns what a network's parameters and buffers take, in bytes."""
    return sum(tensor.numel() * tensor.element_size() for tensor in named_tensors(model).values())


def tensor_of(model: nn.Module, name: str) -> Tensor:
    """Returns a parameter or buffer by any of its names, detached."""
    owner, _, leaf = name.rpartition(".")
    tensor = getattr(model.get_submodule(owner), leaf)
    assert isinstance(tensor, Tensor)
    return tensor.detach()


def buffer_places(model: nn.Module) -> dict[int, list[tuple[nn.Module, str]]]:
    """Returns which modules hold each buffer, and as what, by the identity of the buffer."""
    places: dict[int, list[tuple[nn.Module, str]]] = {}
    for module in model.modules():
        for key, buffer in module._buffers.items():
            if buffer is not None:
                places.setdefault(id(buffer), []).append((module, key))
    return places


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Puts a network into evaluation mode, and restores the training flag of each of its modules."""
    flags = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, flag in flags:
            module.training = flag


@contextmanager
def inference(model: nn.Module) -> Iterator[None]:
    """Runs a network in evaluation mode and without gradients; see `evaluation_mode`.

    PyTorch's inference mode is not used: tensors that the network makes on first use and keeps must also serve in
    training.
    """
    with evaluation_mode(model), torch.no_grad():
        yield


def failure_of(model: nn.Module, example_input: ExampleInput) -> Exception | None:
    """Runs a network once; returns the exception that it raises, None if it runs."""
    try:
        with inference(model):
            call(model, example_input)
    except Exception as error:  # whatever the network's layers raise
        return error
    return None


@contextmanager
def without_fused_attention() -> Iterator[None]:
    """Keeps PyTorch from running whole transformer layers as one operator."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)
