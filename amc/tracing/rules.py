"""Which rule each operator follows.

Operators fall into a few families: those that only move elements apply to the shadow as they are, element-wise ones
couple their operands, and the few that compute across channels have a small rule each in `rules_compute`. An operator
that no rule knows freezes what it reads, with its name as the reason: such a network is cut less, but never wrongly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from amc.runtime.call import first_line, tensors_in
from amc.structure.residual_sums import WHOLE_FUNCTIONS, kind_of
from amc.tracing import (
    canvas,
    rules_compute,
    rules_convolution,
    rules_move,
    rules_norms,
    rules_position,
    rules_writing,
)
from amc.tracing.derived import origin, rearranged
from amc.tracing.liveness import changed_by, step
from amc.tracing.picked_rows import note_cost_of_rows, note_rows
from amc.tracing.record import Trace
from amc.tracing.shadow import Shadow
from amc.tracing.views import memory_of

NOT_REACHED = (
    "the example input gives it nothing to compute, as an expert to which it routes nothing; a larger one may reach it"
)
"""Why a layer is left whole that ran on no rows."""
Rule = Callable[[Trace, Any, tuple[Any, ...], dict[str, Any], Any], None]

_COMPUTING = rules_compute.RULES | rules_convolution.RULES | rules_norms.RULES

RULES: dict[str, Rule] = rules_move.RULES | rules_position.RULES | rules_writing.RULES | _COMPUTING


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
    inputs = tensors_in((args, kwargs))
    trace.note_uses(inputs)
    source, costs = origin(trace, inputs), len(trace.costs)
    trace.views.meet([*inputs, *tensors_in(outputs)])
    changed = changed_by(func, args, kwargs)
    blank = [tensor for tensor in changed if trace.view_of(tensor) is None and trace.shadow(tensor).is_neutral]
    _give_shadows(trace, func, args, kwargs, outputs, is_constant=source is not None)
    trace.pass_writers([] if name in rules_move.CREATORS else inputs, tensors_in(outputs))
    for tensor in changed:
        _was_changed(trace, tensor, inputs, is_blank=any(tensor is other for other in blank))
    reads_rows = note_rows(trace, func, args, inputs, outputs)
    if reads_rows and len(trace.costs) > costs:
        note_cost_of_rows(trace, inputs)
    if trace.counting:
        _record(trace, func, args, kwargs, outputs, range(costs, len(trace.costs)))
    if source is not None and (computed := [out for out in tensors_in(outputs) if trace.view_of(out) is None]):
        spent = (*source.costs, *range(costs, len(trace.costs)))
        derived = replace(source, costs=spent, axes=rearranged(trace, func, args, outputs))
        trace.derived.update({id(tensor): derived for tensor in computed})
        if trace.counting:  # layers are recorded in this run alone
            views = {id(tensor): view for tensor in inputs if (view := trace.view_of(tensor)) is not None}
            trace.rehearsal.ran(func, args, kwargs, outputs, views)


def _was_changed(trace: Trace, tensor: Tensor, inputs: list[Tensor], *, is_blank: bool) -> None:
    """Records that an operator has written into a tensor, and so into what it is a view of."""
    trace.overwritten(tensor)
    whole = trace.views.of(tensor)[0]
    trace.pass_writers([tensor, whole], [whole])
    canvas.note_written(trace, tensor, [other for other in inputs if other is not tensor])
    if is_blank:
        canvas.spread(trace, tensor)


def _record(trace: Trace, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], outputs: Any, costs: range) -> None:
    """Records what an operator depends on, and what it adds."""
    done, addition = step(func, args, kwargs, outputs, costs), None
    trace.ran(done, tensors_in(outputs))
    if WHOLE_FUNCTIONS.isdisjoint(trace.functions):
        addition = trace.sums.ran(kind_of(func, kwargs), args, outputs)
    if trace.branches is not None:
        summands = [key for summand in args[:2] for key in memory_of(summand)] if addition is not None else []
        changes = func._schema.is_mutable
        trace.branches.ran(done, trace.modules, changes=changes, addition=addition, summands=summands)


def _give_shadows(
    trace: Trace, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], outputs: Any, *, is_constant: bool
) -> None:
    """Applies the rule; an operator without one freezes its inputs, unless these are only constants or parameters."""
    name, inputs, rule = func.overloadpacket.__name__, tensors_in((args, kwargs)), _rule_of(func)
    known = any(trace.view_of(tensor) is not None or not trace.shadow(tensor).is_neutral for tensor in inputs)
    if rule is None and not is_constant:
        is_constant = all(canvas.is_blank(trace, tensor) for tensor in inputs)
    if (not known and name not in _COMPUTING) or (rule is None and is_constant):
        for tensor in tensors_in(outputs):
            trace.set_shadow(tensor, Shadow.neutral(tensor.shape))
    elif rule is None:
        unknown(trace, f"read by the operator {name!r}, which has no coupling rule", inputs, outputs)
    else:
        _apply_or_freeze(trace, rule, func, args, kwargs, outputs)
    canvas.note(trace, name, args, outputs)


def _rule_of(func: Any) -> Rule | None:
    name = func.overloadpacket.__name__
    rule = RULES.get(name) or RULES.get(name.removesuffix("_"))
    return rules_move.pointwise if rule is None and torch.Tag.pointwise in func.tags else rule


def _apply_or_freeze(
    trace: Trace, rule: Rule, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], outputs: Any
) -> None:
    """Applies a rule; an operator that is used in a way its rule does not cover is treated as unknown."""
    costs = len(trace.costs)
    try:
        rule(trace, func, args, kwargs, outputs)
    except Exception as error:
        del trace.costs[costs:]
        inputs = tensors_in((args, kwargs))
        reason = f"read by the operator {func.overloadpacket.__name__!r} in a way that its coupling rule does not cover"
        is_reached = all(tensor.numel() for tensor in inputs)
        unknown(trace, f"{reason} ({first_line(error)})" if is_reached else NOT_REACHED, inputs, outputs)


def unknown(trace: Trace, reason: str, inputs: list[Tensor], outputs: Any) -> None:
    """Freezes what an operator without a rule reads; nothing behind it counts as a channel."""
    for tensor in inputs:
        trace.freeze_input(tensor, reason)
    label = trace.units.new_fixed(reason)
    for tensor in tensors_in(outputs):
        trace.set_shadow(tensor, Shadow.constant(label, tensor.shape))
