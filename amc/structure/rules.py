"""Which rule each operator follows.

Operators fall into a few families: those that only move elements apply to the shadow as they are, element-wise ones
couple their operands, and the few that compute across channels have a small rule each in `rules_compute`. An operator
that no rule knows freezes what it reads, with its name as the reason: such a network is cut less, never wrongly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_iter

from amc.structure import rules_compute, rules_move
from amc.structure.shadow import Shadow
from amc.structure.tracer import Trace

Rule = Callable[[Trace, Any, tuple[Any, ...], dict[str, Any], Any], None]

RULES: dict[str, Rule] = rules_move.RULES | rules_compute.RULES


def apply_rule(trace: Trace, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], outputs: Any) -> None:
    """Gives the outputs of an operator their shadows.

    Args:
        trace: What is known so far.
        func: The operator (an `OpOverload`) that has just run.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        outputs: What it returned.
    """
    name = func.overloadpacket.__name__
    inputs = [value for value in tree_iter((args, kwargs)) if isinstance(value, Tensor)]
    trace.note_uses(inputs)
    known = any(trace.view_of(tensor) is not None or not trace.shadow(tensor).is_neutral for tensor in inputs)
    if not known:
        for tensor in output_tensors(outputs):
            trace.set_shadow(tensor, Shadow.neutral(tensor.shape))
        rules_compute.count_unlabelled(trace, name, args, outputs)
        return
    rule = RULES.get(name) or RULES.get(name.removesuffix("_"))
    if rule is not None:
        rule(trace, func, args, kwargs, outputs)
    elif torch.Tag.pointwise in func.tags:
        rules_move.pointwise(trace, func, args, kwargs, outputs)
    else:
        unknown(trace, name, inputs, outputs)


def unknown(trace: Trace, name: str, inputs: list[Tensor], outputs: Any) -> None:
    """Freezes what an operator without a rule reads; nothing behind it counts as a channel."""
    reason = f"read by the operator {name!r}, which has no coupling rule"
    for tensor in inputs:
        trace.freeze_input(tensor, reason)
    label = trace.units.new_fixed(reason)
    for tensor in output_tensors(outputs):
        trace.set_shadow(tensor, Shadow.constant(label, tensor.shape))


def output_tensors(outputs: Any) -> list[Tensor]:
    """Returns the tensors among an operator's outputs."""
    return [value for value in tree_iter(outputs) if isinstance(value, Tensor)]
