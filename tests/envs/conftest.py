"""A problem small enough to work out by hand, and an evaluator that is a formula."""

from __future__ import annotations

import pytest

from amc.costs import Budget, PolynomialCost
from amc.problem import Decision, PruningProblem
from amc.problem.score import Score
from amc.structure import CostTerm, Extent, LayerSpec


def layer(name, channels, reads, side, stride, kernel, flops, kind="conv"):
    shape = (channels, reads, kernel, kernel)
    sizes = ((kernel, kernel), (stride, stride), (side, side))
    return LayerSpec(name, kind, f"{name}.weight", shape, reads, channels, *sizes, 1, flops, 0, None, ())


def three_decisions(budget=Budget(flops=0.5), kind="filter", **fields):  # noqa: B008 (frozen)
    """Cost 4a + ab + 2bc with 8, 10 and 5 channels: 32 + 80 + 100 = 212 when dense, 4 + 1 + 2 at the smallest."""
    a, b, c = (Extent(0, ((index, 1),)) for index in range(3))
    sizes = (8, 10, 5)
    flops = PolynomialCost("flops", [CostTerm(4, (a,)), CostTerm(1, (a, b)), CostTerm(2, (b, c))], sizes)
    params = PolynomialCost("params", [CostTerm(1, (a,)), CostTerm(2, (b,)), CostTerm(3, (c,))], sizes)
    layers = (
        layer("a", 8, 4, side=16, stride=1, kernel=3, flops=32),
        layer("b", 10, 8, side=16, stride=2, kernel=1, flops=80),
        layer("c", 5, 10, side=8, stride=1, kernel=3, flops=100),
    )
    decisions = tuple(Decision(name, size, **fields) for name, size in zip("abc", sizes, strict=True))
    return PruningProblem(decisions, kind, {"flops": flops, "params": params}, layers, budget)


class Formula:
    """Scores an allocation by how few channels it lost, and counts the calls."""

    def __init__(self):
        self.calls = []

    def __call__(self, allocation):
        self.calls.append(allocation)
        kept = sum(allocation.widths.values())
        return Score(accuracy=100.0 * kept / 23, cross_entropy=0.5, images=10)


@pytest.fixture(scope="session")
def make_problem():
    return three_decisions


@pytest.fixture
def evaluate():
    return Formula()


@pytest.fixture(scope="session")
def make_evaluate():
    return Formula
