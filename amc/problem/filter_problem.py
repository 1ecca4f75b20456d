"""The decisions and costs of filter pruning."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from amc.costs.budget import Budget
from amc.costs.cost_model import CostModel
from amc.costs.metrics import METRICS
from amc.errors import ConfigurationError, ModelError
from amc.problem.decision import Decision, bounded_decision
from amc.problem.keep_rules import KeepRules
from amc.problem.patterns import matches
from amc.problem.problem import PruningProblem
from amc.problem.remedies import ANY_WIDTH, EXCLUDING_NONE, NO_BOUNDS, Change, keeping, with_remedy
from amc.problem.rounding import step_of
from amc.structure import ChannelGroup, LayerSpec, ModelStructure

CostOfChannels = Callable[[ModelStructure, Sequence[int]], CostModel]
"""Makes a cost of how many channels some groups keep; see `amc.costs.metrics.Metric.of_channels`."""


_STREAMS = Change("residual", True, "residual streams too (pruning.residual true)")
_REMEDIES = (
    (EXCLUDING_NONE,),
    (NO_BOUNDS,),
    (ANY_WIDTH,),
    (_STREAMS,),
    (keeping(0.01),),
    (keeping(0.01), _STREAMS),
    (keeping(0), _STREAMS),
    (keeping(0), _STREAMS, ANY_WIDTH, NO_BOUNDS, EXCLUDING_NONE),
)
"""What may be changed where a budget cannot be met, the mildest first."""


def filter_problem(
    structure: ModelStructure,
    budget: Budget | None,
    *,
    min_keep_ratio: float = 0.1,
    max_keep_ratio: float = 1.0,
    round_to: int | str = 1,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    exclude: Sequence[str] = (),
    residual: bool = False,
    measured: Mapping[str, CostOfChannels] | None = None,
) -> PruningProblem:
    """Builds the problem of pruning channel groups: one decision per group, a unit is a channel.

    Groups that are excluded, or too narrow for `round_to`, stay dense. Where the structure has residual blocks, each is
    a decision of one unit, which may be dropped (0); bounds on what it contains, or excluding some of that, keep it.

    Args:
        structure: The traced network.
        budget: What the pruned network may cost, or None for no bound.
        min_keep_ratio: Smallest share of its channels that every group keeps; at least one channel is kept.
        max_keep_ratio: Largest share of its channels that every group keeps.
        round_to: Kept channels are a multiple of this, or all channels; `"auto:16"` takes a multiple for each group
            that suits a device which computes 16 at once (see `amc.problem.rounding`).
        bounds: Smallest and largest pruning ratio by name pattern, in place of the two ratios above.
        exclude: Name patterns of groups to leave whole.
        residual: Whether to prune residual streams too.
        measured: Costs beside the metrics, by name, such as a latency from a profile.

    Patterns are shell-style (`"layer1.*"`) and are matched with a group's name and the names of its writers.

    Raises:
        BudgetError: If no allocation meets the budget.
        ConfigurationError: If the ratios leave a group no width, or bounds are given for layers that are not pruned.
        ModelError: If there is nothing to prune.
        UnknownNameError: If a pattern matches neither a group nor a layer.
    """
    rules = KeepRules(min_keep_ratio, max_keep_ratio, bounds or {}, tuple(exclude))
    group_names = [name for group in structure.groups for name in _names(group)]
    rules.check_names([*group_names, *(name for layer in structure.layers for name in layer.names)])

    def build(*, residual: bool, round_to: int | str, **changed: Any) -> PruningProblem:
        now = replace(rules, **changed)
        return _problem(structure, budget, now, round_to, residual=residual, measured=measured or {})

    return with_remedy(build, {**vars(rules), "residual": residual, "round_to": round_to}, _REMEDIES)


def _problem(
    structure: ModelStructure,
    budget: Budget | None,
    rules: KeepRules,
    round_to: int | str,
    *,
    residual: bool,
    measured: Mapping[str, CostOfChannels],
) -> PruningProblem:
    """Builds the problem; see `filter_problem`."""
    _check_bounds(rules.bounds, structure, residual)
    decisions: list[Decision] = []
    for index in _in_order(structure):
        group = structure.groups[index]
        if (group.residual and not residual) or rules.excludes(_names(group)):
            continue
        if group.block is not None:
            decision = _block_decision(group, index, rules)
        else:
            step = step_of(structure, index, round_to)
            decision = _decision(group, index, rules.keep_ratios(_names(group)), step, fixed=round_to)
        if decision.smallest < decision.size:
            decisions.append(decision)
    if not decisions:
        raise ModelError(_nothing_to_prune(structure))
    groups = [decision.group for decision in decisions]
    counted: dict[str, CostOfChannels] = {name: METRICS.get(name).of_channels for name in METRICS.names()}
    return PruningProblem(
        decisions=tuple(decisions),
        costs={name: make(structure, groups) for name, make in {**counted, **measured}.items()},
        layers=tuple(_writing_layer(structure, decision.group) for decision in decisions),
        budget=budget,
        kind="filter",
    )


def _in_order(structure: ModelStructure) -> list[int]:
    """Returns the groups that may be cut, each residual block ahead of the first of those that it takes with it."""
    order = list(structure.prunable)
    for index in structure.blocks:
        inside = set(structure.groups[index].writers)
        places = (at for at, other in enumerate(order) if inside.issuperset(structure.groups[other].writers))
        order.insert(next(places, len(order)), index)
    return order


def _block_decision(group: ChannelGroup, index: int, rules: KeepRules) -> Decision:
    """Builds the decision of a block: all or nothing, unless bounds on what it contains keep it."""
    free = replace(rules, min_keep_ratio=0.0, max_keep_ratio=1.0).keep_ratios(_names(group)) == (0.0, 1.0)
    return Decision(group.name, 1, 0 if free else 1, group=index, may_vanish=free)


def _decision(group: ChannelGroup, index: int, keep: tuple[float, float], step: int, *, fixed: int | str) -> Decision:
    """Builds the decision of a group; an automatic step gives way to bounds that leave no width for it."""
    while True:
        try:
            return bounded_decision(
                group.name, group.channels, min_keep_ratio=keep[0], max_keep_ratio=keep[1], step=step, group=index
            )
        except ConfigurationError:
            if isinstance(fixed, int) or step == 1:
                raise
            step //= 2


def _names(group: ChannelGroup) -> list[str]:
    return [group.name, *group.writers]


def _check_bounds(patterns: Iterable[str], structure: ModelStructure, residual: bool) -> None:
    """Rejects bounds that would have no effect, since nothing that their pattern names is pruned."""
    for pattern in patterns:
        reasons = []
        for group in structure.groups:
            if matches(_names(group), pattern):
                stream = "it writes a residual stream, which pruning.residual true prunes"
                reasons.append(group.reason or (stream if group.residual and not residual else None))
        if None not in reasons:
            reason = next(iter(reasons), "no channels go by that name")
            raise ConfigurationError(
                f"the bounds of {pattern!r} reach nothing that is pruned ({reason}); leave them out"
            )


def _nothing_to_prune(structure: ModelStructure) -> str:
    message = "the network has no channel group that may be pruned under these rules"
    reasons = [f"{group.name}: {group.reason}" for group in structure.groups if group.reason]
    if reasons:
        message += f" ({'; '.join(reasons[:3])}{'; ...' if len(reasons) > 3 else ''})"
    return message + "; exclude fewer layers, allow residual streams, or round widths to a smaller number"


def _writing_layer(structure: ModelStructure, group: int) -> LayerSpec:
    """Returns the first layer that writes the group's channels; for a block its last one, with the cost of all."""
    writers = structure.groups[group].writers
    if structure.groups[group].block is not None:
        inside = structure.layers_of(group)
        flops, params = (sum(getattr(layer, cost) for layer in inside) for cost in ("flops", "params"))
        return replace(inside[-1], name=structure.groups[group].name, kind="block", flops=flops, params=params)
    # A layer names one group that it writes, and it may write several.
    layer = next((layer for layer in structure.layers if layer.writes == group or layer.owner in writers), None)
    assert layer is not None, f"no layer writes the group {structure.groups[group].name}"
    return layer
