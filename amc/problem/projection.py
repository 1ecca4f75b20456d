"""Bringing an allocation to the budget: never over it, and with nothing left unspent that could be spent."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from amc.costs.cost_model import CostModel, CostTracker
from amc.problem.decision import highest_level
from amc.problem.space import DecisionSpace

_NOTHING = 1e-6
"""Stands in for the width of a block that is dropped, which no factor raises before all others are whole."""


def project(space: DecisionSpace, cost_model: CostModel, limit: int, targets: Sequence[float]) -> tuple[int, ...]:
    """Scales targets by the largest common factor that meets the limit, then spends what is left.

    Args:
        space: The decisions.
        cost_model: What the widths cost.
        limit: Largest cost; the smallest widths meet it.
        targets: Units that each decision would like to keep, above 0, before scaling.

    Returns:
        Allowed widths within the limit, none of which can rise by a step without exceeding it.
    """
    factor, widths = _scale(space, cost_model, limit, targets, 0.0, space.min_widths)
    return _spend(space, cost_model, limit, widths, [factor * target for target in targets])


def fill(space: DecisionSpace, cost_model: CostModel, limit: int, widths: Sequence[int]) -> tuple[int, ...]:
    """Raises widths in proportion, then by single steps, until none can rise.

    Args:
        space: The decisions.
        cost_model: What the widths cost.
        limit: Largest cost.
        widths: Allowed widths within the limit.

    Returns:
        Allowed widths within the limit, none of which can rise by a step without exceeding it.
    """
    proportions = [width or _NOTHING for width in widths]
    factor, scaled = _scale(space, cost_model, limit, proportions, 1.0, tuple(widths))
    return _spend(space, cost_model, limit, scaled, [factor * width for width in widths])


def _scale(
    space: DecisionSpace,
    cost_model: CostModel,
    limit: int,
    targets: Sequence[float],
    low: float,
    below: tuple[int, ...],
) -> tuple[float, tuple[int, ...]]:
    """Bisects the largest common factor whose rounded widths meet the limit; `low` with widths `below` does.

    Stops where the widths on both sides differ by one level of one decision, or where the factors are so close that
    only decisions that round at the same factor differ.
    """
    decisions = space.decisions
    high = max(decision.largest / target for decision, target in zip(decisions, targets, strict=True))
    above = space.max_widths
    if cost_model.cost(above) <= limit:
        return max(low, high), above
    while high - low > 1e-9 * high and _levels_between(space, below, above) > 1:
        middle = (low + high) / 2
        widths = tuple(decision.nearest(middle * target) for decision, target in zip(decisions, targets, strict=True))
        if cost_model.cost(widths) <= limit:
            low, below = middle, widths
        else:
            high, above = middle, widths
    return low, below


def _levels_between(space: DecisionSpace, below: Sequence[int], above: Sequence[int]) -> int:
    return sum(d.level(b) - d.level(a) for d, a, b in zip(space.decisions, below, above, strict=True))


def _affordable(tracker: CostTracker, index: int, limit: int, width: int) -> bool:
    return tracker.cost_with(index, width) <= limit


def _spend(
    space: DecisionSpace, cost_model: CostModel, limit: int, widths: Sequence[int], targets: Sequence[float]
) -> tuple[int, ...]:
    """Raises widths until none can rise by a step within the limit.

    Decisions below their target rise first, by one step, starting with those that miss the largest share of their
    units. The rest goes to the decision whose next step is the most expensive one that fits, and so on until nothing
    fits. A step that does not fit will not fit later, as costs never fall, so it is tried only once.
    """
    decisions, result = space.decisions, list(widths)
    tracker = cost_model.track(result)

    def reach(index: int, level: int) -> None:
        result[index] = decisions[index].width(level)
        tracker.set_width(index, result[index])

    def step_cost(index: int) -> int | None:
        """The cost after the next step of a decision; None if there is no step, or it does not fit."""
        level = decisions[index].level(result[index]) + 1
        if level == decisions[index].levels:
            return None
        cost = tracker.cost_with(index, decisions[index].width(level))
        return cost if cost <= limit else None

    shortfalls = [(target - width) / d.size for d, width, target in zip(decisions, widths, targets, strict=True)]
    for index in sorted(range(len(result)), key=lambda i: -shortfalls[i]):
        if shortfalls[index] > 0 and step_cost(index) is not None:
            reach(index, decisions[index].level(result[index]) + 1)
    candidates = list(range(len(result)))
    while steps := [(cost, -index) for index in candidates if (cost := step_cost(index)) is not None]:
        index = -max(steps)[1]
        level = highest_level(decisions[index], partial(_affordable, tracker, index, limit))
        assert level is not None
        reach(index, level)
        candidates = sorted(-negative for _, negative in steps)
    return tuple(result)
