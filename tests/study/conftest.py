"""A problem small enough to work out by hand."""

from __future__ import annotations

import pytest

from amc.costs import Budget, PolynomialCost
from amc.problem import Decision, PruningProblem
from amc.structure import CostTerm, Extent, LayerSpec


def even_problem(count=4):
    """Every decision has 8 units; the cost is the number of units kept, half of them at most."""
    names = "abcd"[:count]
    terms = [CostTerm(1, (Extent(0, ((index, 1),)),)) for index in range(count)]
    cost = PolynomialCost("flops", terms, [8] * count)
    shape = ((3, 3), (1, 1), (8, 8))
    layers = tuple(
        LayerSpec(name, "conv", f"{name}.weight", (8, 8, 3, 3), 8, 8, *shape, 1, 8, 8, None, ()) for name in names
    )
    decisions = tuple(Decision(name, 8) for name in names)
    return PruningProblem(decisions, "filter", {"flops": cost, "params": cost}, layers, Budget(flops=0.5))


@pytest.fixture
def make_problem():
    return even_problem
