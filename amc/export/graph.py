"""What the two graph formats share: arguments, dynamic batch axis, and the wording of failures."""

from __future__ import annotations

import inspect
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.utils._pytree import tree_leaves, tree_map

from amc.errors import ExportError
from amc.export.causal_hints import masks_as_they_are
from amc.export.formats import Exportable
from amc.runtime.call import call, tensors_in
from amc.runtime.hooks import hooked
from amc.runtime.inputs import batch_length, is_batched
from amc.runtime.quiet import quiet


def arguments(example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Returns the positional and keyword arguments that an example input stands for."""
    if isinstance(example, Tensor):
        return (example,), {}
    if isinstance(example, Mapping):
        return (), dict(example)
    return tuple(example), {}


def trace_graph(network: Exportable, format_name: str, *, numbers: bool = True) -> ExportedProgram:
    """Traces a network with a batch axis of any length.

    Args:
        network: What is traced.
        format_name: The format, for messages.
        numbers: Whether the format holds outputs that are plain numbers; they are left out otherwise.

    Raises:
        ExportError: If PyTorch cannot trace it, or its graph holds for some batch sizes only.
    """
    positional, named = arguments(network.example)
    shapes = dynamic_batch(network.model, network.example)
    try:
        # Where a trace fails, PyTorch prints the graph so far on stderr: hundreds of lines.
        with (
            quiet(),
            redirect_stderr(io.StringIO()),
            masks_as_they_are(network.model),
            _without_others(network, numbers),
        ):
            return torch.export.export(network.model, positional, named or None, dynamic_shapes=shapes)
    except Exception as error:  # torch.export has no exception of its own for its limitations
        raise export_failure(format_name, error) from error


@contextmanager
def _without_others(network: Exportable, numbers: bool) -> Iterator[None]:
    """Makes a network return only its tensors where it also returns things that graphs cannot hold.

    Language models return their caches of keys and values, which an exported graph does not need; see
    `amc.runtime.call.tensors_in`. Texts become None, and so do plain numbers where a format has none.
    """
    with torch.no_grad():
        leaves = tree_leaves(call(network.model, network.example))
    others = [leaf for leaf in leaves if leaf is not None and not isinstance(leaf, Tensor)]
    held = (Tensor, bool, int, float) if numbers else Tensor
    if all(isinstance(other, held) for other in others):
        yield
        return
    plain = all(isinstance(other, (bool, int, float, str)) for other in others)

    def reduced(module: nn.Module, inputs: Any, output: Any) -> Any:
        if plain:
            return tree_map(lambda leaf: leaf if isinstance(leaf, held) else None, output)
        return tuple(tensors_in(output))

    with hooked([network.model.register_forward_hook(reduced)]):
        yield


def dynamic_batch(model: nn.Module, example: Any) -> dict[str, Any]:
    """Returns `dynamic_shapes` for `torch.export`: the batch axis of every tensor that has it may have any length.

    They stand by the names of the arguments, where `*args` are one and `**kwargs` are one.
    """
    length, batch = batch_length(example), torch.export.Dim("batch")

    def axes(item: Any) -> dict[int, Any] | None:
        return {0: batch} if isinstance(item, Tensor) and is_batched(item, length) else None

    positional, named = arguments(example)
    bound = inspect.signature(model.forward).bind(*positional, **named).arguments
    return {name: tree_map(axes, value) for name, value in bound.items()}


def first_cause(error: Exception) -> Exception:
    """Returns the error that those that an exporter has raised come from."""
    while error.__cause__ is not None and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return error


def export_failure(format_name: str, error: Exception) -> ExportError:
    """Describes the failure of an exporter by its first cause: what exporters make of it is general advice."""
    error = first_cause(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return ExportError(
        f"the network cannot be exported to {format_name}: {type(error).__name__}: {' '.join(lines[:2])[:300]}; "
        "its forward must not depend on values or on the batch size; '--format safetensors' works for any network"
    )
