"""The decisions and costs of weight (fine-grained) pruning."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import lcm, prod
from typing import Any

from amc.costs.budget import Budget
from amc.costs.metrics import METRICS
from amc.errors import ModelError
from amc.problem.decision import Decision, bounded_decision
from amc.problem.keep_rules import KeepRules
from amc.problem.problem import PruningProblem
from amc.problem.remedies import ANY_WIDTH, EXCLUDING_NONE, NO_BOUNDS, Change, keeping, with_remedy
from amc.pruning.weight_patterns import WEIGHT_PATTERNS, WeightPattern
from amc.structure import LayerSpec, ModelStructure

_MOST_LEVELS = 2**22
"""A float32 action can distinguish this many widths of a layer; a larger layer is pruned in larger steps."""
_SINGLE = Change("pattern", "unstructured", "single weights (pruning.pattern unstructured)")
_REMEDIES = (
    (EXCLUDING_NONE,),
    (NO_BOUNDS,),
    (ANY_WIDTH,),
    (_SINGLE,),
    (keeping(0),),
    (keeping(0), _SINGLE, ANY_WIDTH, NO_BOUNDS, EXCLUDING_NONE),
)
"""What may be changed where a budget cannot be met, the mildest first."""


def weight_problem(
    structure: ModelStructure,
    budget: Budget | None,
    *,
    min_keep_ratio: float = 0.01,
    max_keep_ratio: float = 1.0,
    round_to: int = 1,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    exclude: Sequence[str] = (),
    pattern: str = "unstructured",
) -> PruningProblem:
    """Builds the problem of pruning single weights: one decision per layer, a unit is a weight.

    The layers are convolutions, linear layers, the projections of attention, and embeddings, which cost no FLOPs. Left
    out are those of whose weights one forward pass uses some more often than others, such as the projections of
    attention between sequences of two lengths, as a zero does not always save as much there; those that the network
    multiplies by something else where they are zero, as with weight standardisation; and buffers that no file holds.

    Zeros cost nothing: `"params"` counts the parameters that are not zero, `"flops"` the effective FLOPs.

    Args:
        structure: The traced network.
        budget: What the pruned network may cost, or None for no bound.
        min_keep_ratio: Smallest share of its weights that every layer keeps; at least one weight is kept.
        max_keep_ratio: Largest share of its weights that every layer keeps.
        round_to: Kept weights are a multiple of this, or all weights. Layers of more than 2^22 weights are rounded
            so that they have no more widths than that.
        bounds: Smallest and largest pruning ratio by pattern (`"layer1.*"`) of layer names, in place of the two above.
        exclude: Patterns of layers to leave alone.
        pattern: Name in `amc.pruning.weight_patterns.WEIGHT_PATTERNS`: which weights stay or go together. Layers that
            it does not fit stay dense.

    Raises:
        BudgetError: If no allocation meets the budget.
        ConfigurationError: If the ratios leave a layer no width.
        ModelError: If there is nothing to prune.
        UnknownNameError: If a pattern of names matches no layer, or the pattern of weights does not exist.
    """
    rules = KeepRules(min_keep_ratio, max_keep_ratio, bounds or {}, tuple(exclude))
    rules.check_names([name for layer in structure.layers for name in layer.names])
    WEIGHT_PATTERNS.get(pattern)  # is there such a pattern?

    def build(*, pattern: str, round_to: int, **changed: Any) -> PruningProblem:
        return _problem(structure, budget, replace(rules, **changed), round_to, WEIGHT_PATTERNS.get(pattern))

    return with_remedy(build, {**vars(rules), "pattern": pattern, "round_to": round_to}, _REMEDIES)


def _problem(
    structure: ModelStructure,
    budget: Budget | None,
    rules: KeepRules,
    round_to: int,
    units: WeightPattern,
) -> PruningProblem:
    """Builds the problem; see `weight_problem`."""
    decisions: list[Decision] = []
    named = Counter(layer.name for layer in structure.layers)
    for index, layer in enumerate(structure.layers):
        unit = units.step(layer.matrix_shape)
        may_lose = layer.is_used_evenly and layer.is_saved and layer.keeps_zeros and named[layer.name] == 1
        if not may_lose or unit is None or rules.excludes(layer.names):
            continue
        decision = _decision(layer, index, lcm(unit, round_to), rules.keep_ratios(layer.names))
        if decision.smallest < decision.size:
            decisions.append(decision)
    if not decisions:
        raise ModelError("the network has no layer whose weights may be pruned under these rules; exclude fewer layers")
    indices = [decision.group for decision in decisions]
    return PruningProblem(
        decisions=tuple(decisions),
        costs={name: METRICS.get(name).of_weights(structure, indices) for name in METRICS.names()},
        layers=tuple(structure.layers[index] for index in indices),
        budget=budget,
        kind="weight",
    )


def _decision(layer: LayerSpec, index: int, step: int, keep_ratios: tuple[float, float]) -> Decision:
    """Returns the decision on the weights of a layer, of which a multiple of `step` is kept, coarser if it is large."""
    size, (low, high) = prod(layer.weight_shape), keep_ratios
    step *= -(-size // (step * _MOST_LEVELS))
    return bounded_decision(layer.name, size, min_keep_ratio=low, max_keep_ratio=high, step=step, group=index)
