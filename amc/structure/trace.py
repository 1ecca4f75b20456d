"""Finds a network's channel groups and costs by running it once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Iterator

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_iter, tree_map

from amc.errors import ModelError, StructureError
from amc.structure.assemble import assemble
from amc.structure.model_structure import ModelStructure
from amc.structure.shadow import Shadow
from amc.structure.sliceable import make_sliceable
from amc.structure.tracer import AdaptivePoolMode, Producer, ShadowMode, Trace, module_names
from amc.structure.trial import without_failing_groups

ExampleInput = Tensor | Sequence[Any] | Mapping[str, Any]
"""One input of the network: a tensor, a tuple of positional or a mapping of keyword arguments."""


def trace_structure(model: nn.Module, example_input: ExampleInput, *, verify: bool = True) -> ModelStructure:
    """Traces a network's structure.

    The network runs once in evaluation mode. A second run, in training mode, follows where some parameters took no
    part in the first (auxiliary heads). Attention modules of PyTorch and torchvision are replaced in place by twins
    that compute the same and can lose heads (see `make_sliceable`).

    Args:
        model: The network; its weights, buffers and mode are left as they are.
        example_input: One example, with a batch axis of length 1 where the network has one.
        verify: Whether every group is also tried out: half of its channels are cut, the network is run, and groups
            with which it fails, or does not compute what it should, are left alone with the reason.

    Returns:
        The structure: layers, groups, and costs as functions of the widths.

    Raises:
        ModelError: If a weight is not finite, or the network has parameters that are not initialised.
        StructureError: If the network does not run on the example input.
    """
    check_weights(model)
    make_sliceable(model)
    trace = Trace(model)
    with _undisturbed(model):
        model.eval()
        _run(trace, example_input)
        _resolve_readers(trace)
        untouched = [n for n, _ in model.named_parameters() if n not in trace.touched]
        if untouched:
            trace.counting = False
            model.train()
            _run_training(trace, example_input)
    structure = assemble(trace)
    return without_failing_groups(model, structure, example_input) if verify else structure


def check_weights(model: nn.Module) -> None:
    """Checks that all weights are there and finite.

    Raises:
        ModelError: If not, naming the tensor.
    """
    for name, parameter in [*model.named_parameters(), *model.named_buffers()]:
        if isinstance(parameter, nn.parameter.UninitializedTensorMixin):
            raise ModelError(f"weights must exist before tracing: {name!r} is lazy; run the network once before")
        if parameter.is_floating_point() and not bool(torch.isfinite(parameter).all()):
            raise ModelError(f"weights must be finite: {name!r} holds NaN or infinity; check the weights file")


def call(model: nn.Module, example_input: ExampleInput) -> Any:
    """Runs a network on an example: a tensor, a tuple of positional or a mapping of keyword arguments."""
    if isinstance(example_input, Tensor):
        return model(example_input)
    if isinstance(example_input, Mapping):
        return model(**example_input)
    return model(*example_input)


def _run(trace: Trace, example_input: ExampleInput) -> None:
    """Runs the network under the shadow mode and freezes what feeds its outputs."""
    trace.forget_activations()
    label = trace.units.new_fixed("summed with the network's input")
    for tensor in _tensors(example_input):
        if tensor.is_floating_point():
            trace.set_shadow(tensor, Shadow.constant(label, tensor.shape))
    try:
        with torch.no_grad(), module_names(trace), _without_fused_attention():
            with AdaptivePoolMode(trace), ShadowMode(trace):
                output = call(trace.model, example_input)
    except (RuntimeError, TypeError, ValueError, IndexError, AttributeError) as error:
        if isinstance(error, (TypeError, AttributeError)) and trace.modules:
            raise
        raise StructureError(f"the network must run on the example input, but fails: {first_line(error)}") from error
    for tensor in _tensors(output):
        trace.units.freeze(trace.shadow(tensor).labels(), "the network's output")
    trace.forget_activations()


def _run_training(trace: Trace, example_input: ExampleInput) -> None:
    """Runs in training mode on two copies of the example (batch norm needs two values a channel)."""
    doubled = tree_map(lambda v: torch.cat([v, v]) if isinstance(v, Tensor) and v.dim() else v, example_input)
    with torch.random.fork_rng():
        _run(trace, doubled)


def _resolve_readers(trace: Trace) -> None:
    """Keeps the batch norms and sums that are the only readers of a layer's output."""
    for producer in trace.all_producers:
        if producer.uses != 1 or producer.reader is None:
            continue
        if producer.reader[0] == "batch_norm":
            producer.layer.batch_norm = producer.reader[1]
        elif producer is _last(producer) and _is_direct(trace, producer):
            producer.layer.residual_sum = producer.reader[1]


def _last(producer: Producer) -> Producer:
    return producer if producer.followed is None else _last(producer.followed)


def _is_direct(trace: Trace, producer: Producer) -> bool:
    """Tells whether everything from the layer to the sum has one reader only."""
    above = [p for p in trace.all_producers if p.followed is producer]
    return all(p.uses == 1 for p in above)


def _tensors(value: Any) -> list[Tensor]:
    if not isinstance(value, (Tensor, tuple, list, dict)) and hasattr(value, "__dict__"):
        value = vars(value)
    return [item for item in tree_iter(value) if isinstance(item, Tensor)]


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextmanager
def _without_fused_attention() -> Iterator[None]:
    """Keeps PyTorch from running whole transformer layers as one operator."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


@contextmanager
def _undisturbed(model: nn.Module) -> Iterator[None]:
    """Restores the mode of every module and the values of all buffers."""
    modes = {module: module.training for module in model.modules()}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                buffer.copy_(buffers[name])
