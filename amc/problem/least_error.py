"""The widths of the least total error under a budget, by dynamic programming over the errors of single layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from amc.problem.decision import Decision
from amc.problem.problem import PruningProblem

Vector = NDArray[np.float64]

_LEVELS = 64
"""Widths considered per decision."""
_BUCKETS = 10_000
"""Steps into which the budget is divided (SPDY: as many)."""
_ROUNDS = 4
"""How often the cost is linearised: channels of neighbouring groups multiply."""


def least_error_widths(
    problem: PruningProblem, errors: Mapping[str, Vector], buckets: int = _BUCKETS
) -> tuple[int, ...]:
    """Returns the widths that minimise the sum of the layers' errors under the budget (the knapsack of SPDY).

    Paper: Frantar and Alistarh, 2022, arXiv:2201.13096, section 3.2, `min sum of e_l(s_l)` over the levels, subject to
    the sum of their costs. SPDY searches for coefficients of the errors, too (`agents.spdy`). Deviations: costs are
    rounded up to buckets, so that the budget holds; and where costs are not a sum over the decisions (channels),
    they are linearised around the best allocation so far.

    Args:
        problem: The problem; it has a budget.
        errors: By the name of each decision its error by width, `(units + 1,)`; see `Evaluator.errors`.
        buckets: Steps into which the budget is divided; see `cheapest`.
    """
    curves = [errors[decision.name] for decision in problem.decisions]
    centre = problem.project([1.0] * len(problem.decisions))
    tried = [centre]
    for _ in range(_ROUNDS):
        centre = linearised_best(problem, curves, centre, buckets)
        tried.append(centre)
    return min(tried, key=lambda widths: total_error(curves, widths))


def total_error(errors: Sequence[Vector], widths: Sequence[int]) -> float:
    """Returns the sum of the errors at some widths."""
    return float(sum(curve[width] for curve, width in zip(errors, widths, strict=True)))


def linearised_best(
    problem: PruningProblem, errors: Sequence[Vector], centre: Sequence[int], buckets: int = _BUCKETS
) -> tuple[int, ...]:
    """Solves the knapsack with the cost linearised around some widths, and brings the result to the budget.

    Args:
        problem: The problem; it has a budget.
        errors: For each decision the error by width, `(units + 1,)`.
        centre: The widths.
        buckets: Steps into which the budget is divided.
    """
    assert problem.limit is not None
    levels = [_levels(decision) for decision in problem.decisions]
    slopes = problem.cost_slopes(centre)
    fixed = problem.cost(centre) - sum(np.multiply(slopes, problem.keep_ratios(centre)))
    costs = [
        slope * widths / decision.size
        for slope, widths, decision in zip(slopes, levels, problem.decisions, strict=True)
    ]
    losses = [curve[widths] for curve, widths in zip(errors, levels, strict=True)]
    chosen = cheapest(costs, losses, problem.limit - fixed, buckets)
    widths = tuple(int(options[index]) for options, index in zip(levels, chosen, strict=True))
    if problem.cost(widths) <= problem.limit:
        return problem.fill(widths)
    return problem.project(problem.keep_ratios(widths))


def _levels(decision: Decision) -> NDArray[np.int64]:
    """Returns at most `_LEVELS` allowed widths of a decision, rising, the smallest and the largest among them."""
    count = decision.levels
    places = np.unique(np.linspace(0, count - 1, min(count, _LEVELS)).round().astype(int))
    return np.array([decision.width(int(place)) for place in places])


def cheapest(
    costs: Sequence[Vector], errors: Sequence[Vector], limit: float, buckets: int = _BUCKETS
) -> tuple[int, ...]:
    """Chooses one level per layer so that the errors sum to the least and the costs to no more than a limit.

    Args:
        costs: For each layer the cost of every level, at least 0.
        errors: For each layer the error of every level; one that is not a number is never chosen for its error.
        limit: Largest total cost; at 0 or below, nothing fits.
        buckets: Steps into which the limit is divided. Costs are rounded up to whole steps, so the limit holds; with
            whole costs and as many buckets as the limit has units the choice is exact.

    Returns:
        The index of the chosen level of each layer; the cheapest levels where nothing fits, or rounding leaves no
        other choice.
    """
    least = tuple(int(np.argmin(cost)) for cost in costs)
    if limit <= 0:
        return least
    unit = limit / buckets
    steps = [np.ceil(np.maximum(cost, 0.0) / unit - 1e-9).astype(int) for cost in costs]
    best = np.zeros(buckets + 1)
    choices = []
    for taken, error in zip(steps, errors, strict=True):
        options = np.full((len(taken), buckets + 1), np.inf)
        for level, (step, loss) in enumerate(zip(taken, np.where(np.isnan(error), np.inf, error), strict=True)):
            if step <= buckets:
                options[level, step:] = best[: buckets + 1 - step] + loss
        choices.append(options.argmin(axis=0))
        best = options.min(axis=0)
    if not np.isfinite(best[buckets]):
        return least
    left, chosen = buckets, []
    for taken, choice in zip(reversed(steps), reversed(choices), strict=True):
        chosen.append(int(choice[left]))
        left -= int(taken[chosen[-1]])
    return tuple(reversed(chosen))
