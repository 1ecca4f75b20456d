"""Finds a network's channel groups and costs by running it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from amc.errors import ModelError, StructureError
from amc.runtime.call import ExampleInput, call, first_line, tensors_in, without_fused_attention
from amc.runtime.plain import plain_network
from amc.structure.model_structure import ChannelGroup, ModelStructure
from amc.structure.sliceable import make_sliceable
from amc.tracing import skipping
from amc.tracing.assemble import assemble
from amc.tracing.blocks import offered
from amc.tracing.branches import BranchRecorder
from amc.tracing.cost_trial import without_wrong_costs
from amc.tracing.entries import dense_flops
from amc.tracing.liveness import without_dead_ends
from amc.tracing.modes import FunctionMode, ShadowMode, module_names
from amc.tracing.picked_rows import freeze_what_tells_rows
from amc.tracing.record import Trace
from amc.tracing.recurrent import couple_states, gate_by_gate
from amc.tracing.shadow import Shadow
from amc.tracing.shared_numbers import with_shared_numbers
from amc.tracing.skipping import Compute, compute
from amc.tracing.trial import without_failing_groups
from amc.tracing.undisturbed import undisturbed
from amc.tracing.views import memory_of

__all__ = ["ExampleInput", "call", "first_line", "trace_structure"]


@dataclass(frozen=True)
class _May:
    """What a trace may look for: residual blocks; numbers in the code, which only a trial can prove to follow."""

    blocks: bool
    reads_code: bool


def trace_structure(
    model: nn.Module,
    example_input: ExampleInput,
    *,
    verify: Literal["values", "shapes", "nothing"] = "values",
    blocks: bool = False,
) -> ModelStructure:
    """Traces a network's structure.

    The network runs in evaluation mode. A second run, in training mode, follows where some parameters were not
    needed for the output of the first (auxiliary heads). Attention modules of PyTorch and torchvision are replaced in
    place by twins that compute the same and can lose heads (see `make_sliceable`).

    Args:
        model: The network; its weights, buffers and mode are left as they are.
        example_input: One example, with a batch axis of length 1 where the network has one.
        verify: How groups are tested: half of each group's channels are cut, the network is run, and groups with which
            it fails, or computes something else (`values`), are left alone with the reason. With `shapes`, only
            failures of a large network are noticed, not wrong values; that saves the time of two forward passes.
        blocks: Whether residual blocks are looked for, which can be dropped as a whole; see `ResidualBlock`.

    Returns:
        The structure: layers, groups, and costs as functions of the widths.

    Raises:
        ModelError: If a weight is not finite, or the network has parameters that are not initialised.
        StructureError: If the network does not run on the example input, or returns no tensor.
    """
    if plain_network(model) is not model:
        raise ModelError(f"the network must be traced without its wrapper {type(model).__name__}; give what it wraps")
    if not isinstance(example_input, Tensor | tuple | list | Mapping):
        raise StructureError(
            "an example input must be a tensor, a tuple of positional arguments or a mapping of keyword arguments, not "
            f"{'None' if example_input is None else f'a {type(example_input).__name__}'}"
        )
    make_sliceable(model)
    may = _May(blocks, reads_code=verify != "nothing")
    trace = _traced_for_shapes(model, example_input, may) or _traced(model, example_input, compute, may)
    dropped = _blocks(trace, example_input) if blocks else ()
    structure = assemble(trace, dropped)
    if verify == "nothing":
        return structure
    tried = partial(
        without_failing_groups, model, example_input=example_input, users=trace.users, values=verify == "values"
    )
    with undisturbed(model):
        model.eval()
        found = with_shared_numbers(trace, tried(structure), partial(assemble, trace, dropped), tried)
        if verify == "shapes" and skipping.worthwhile(model):
            return found
        return without_wrong_costs(model, found, example_input, partial(_flops_of, model, example_input))


def _flops_of(model: nn.Module, example_input: ExampleInput) -> int:
    """Counts the FLOPs of one run of a network in evaluation mode, by the same rules."""
    trace = Trace(model)
    outputs = _run(trace, example_input, compute)
    without_dead_ends(trace, [*outputs, *tensors_in(example_input)])
    return sum(dense_flops(coefficient, factors) for coefficient, factors in trace.costs)


def _blocks(trace: Trace, example_input: ExampleInput) -> tuple[ChannelGroup, ...]:
    """Returns the residual blocks that a trace has found and that can be dropped."""
    assert trace.branches is not None
    with undisturbed(trace.model):
        trace.model.eval()
        return offered(trace, example_input)


def _traced_for_shapes(model: nn.Module, example_input: ExampleInput, may: _May) -> Trace | None:
    """Traces a large network for its shapes; None if that saves nothing, or its values are needed after all."""
    if not skipping.worthwhile(model):
        return None
    try:
        with skipping.for_shapes(model) as run_operator:
            trace = _traced(model, example_input, run_operator, may)
    except (skipping.ValuesNeeded, StructureError):  # the real run gives a better error
        return None
    return None if run_operator.values_needed else trace


def _traced(model: nn.Module, example_input: ExampleInput, run_operator: Compute, may: _May) -> Trace:
    """Runs the network, and once more in training mode if the output does not depend on some parameters."""
    trace = Trace(model, branches=BranchRecorder() if may.blocks else None, in_code=[] if may.reads_code else None)
    with undisturbed(model):
        model.eval()
        outputs = _run(trace, example_input, run_operator)
        if not outputs:
            raise StructureError(
                f"the network must return a tensor, or some in a tuple or a mapping; {type(model).__name__} returns "
                "none: let its forward method return what it computes"
            )
        freeze_what_tells_rows(trace)
        _resolve_readers(trace)
        if trace.branches is not None:
            trace.branches.close(memory_of(outputs))
        thrown_away = without_dead_ends(trace, [*outputs, *tensors_in(example_input)])
        if thrown_away or any(name not in trace.users for name, _ in model.named_parameters()):
            _run_training(trace, example_input, run_operator)
    return trace


def _run(trace: Trace, example_input: ExampleInput, run_operator: Compute) -> list[Tensor]:
    """Runs the network under the shadow mode and freezes what feeds its outputs, which it returns."""
    trace.forget_activations()
    label = trace.units.new_fixed("summed with the network's input")
    for tensor in tensors_in(example_input):
        if tensor.is_floating_point():
            trace.set_shadow(tensor, Shadow.constant(label, tensor.shape))
    contexts = (torch.no_grad(), gate_by_gate(trace.model), module_names(trace), without_fused_attention())
    modes = (FunctionMode(trace), skipping.reading(run_operator), ShadowMode(trace, run_operator))
    try:
        with ExitStack() as stack:
            for context in (*contexts, *modes):
                stack.enter_context(context)
            output = call(trace.model, example_input)
    except skipping.ValuesNeeded:
        raise
    except Exception as error:
        remedy = "give an example of the shape and form that its forward method takes"
        raise StructureError(
            f"the network must run on the example input, but fails: {first_line(error)}; {remedy}"
        ) from error
    outputs = tensors_in(output)
    couple_states(trace)
    trace.note_uses(outputs)
    for tensor in outputs:
        trace.units.freeze(trace.shadow(tensor).labels(), "the network's output")
    trace.forget_activations()
    return outputs


def _run_training(trace: Trace, example_input: ExampleInput, run_operator: Compute) -> None:
    """Runs once more in training mode, so that parts used only in training (auxiliary heads) are coupled too.

    Batch norms stay in evaluation mode: a batch of one has no variance. A network that cannot be run this way (because
    it needs targets, say) keeps the structure seen in evaluation mode.
    """
    trace.counting = False
    trace.model.train()
    for module in trace.model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    try:
        with torch.random.fork_rng(devices=[]):
            _run(trace, example_input, run_operator)
    except StructureError:
        if run_operator is not compute:
            raise  # its zeros may be the cause
        trace.forget_activations()


def _resolve_readers(trace: Trace) -> None:
    """Keeps the batch norms that alone read a layer's output, and read no other's."""
    for producer in trace.all_producers:
        alone = producer.batch_norm is not None and trace.norm_calls[producer.batch_norm] == 1
        if producer.layer.calls == 1 and producer.uses == 1 and alone:
            producer.layer.batch_norm = producer.batch_norm
