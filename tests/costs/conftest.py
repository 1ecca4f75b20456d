"""Random pruning problems, as a Hypothesis strategy."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

from amc.costs import Budget, PolynomialCost
from amc.costs.stepped_cost import SteppedAxis, SteppedCost
from amc.problem import Decision, PruningProblem
from amc.structure import CostTerm, Extent, LayerSpec


def plain_layer(name="layer", **changes):
    """A convolution layer of which only the fields under test matter."""
    fields = {
        "name": name,
        "kind": "conv",
        "weight": f"{name}.weight",
        "weight_shape": (8, 4, 3, 3),
        "in_channels": 4,
        "out_channels": 8,
        "kernel_size": (3, 3),
        "stride": (1, 1),
        "input_size": (10, 10),
        "calls": 1,
        "flops": 28800,
        "params": 296,
        "writes": None,
        "reads": (),
    }
    return LayerSpec(**{**fields, **changes})


@st.composite
def decisions(draw, index=0):
    size = draw(st.integers(1, 40))
    step = draw(st.sampled_from([1, 1, 2, 8]))
    return Decision(f"d{index}", size, min_width=draw(st.integers(1, size)), step=step)


@st.composite
def terms(draw, count):
    extents = st.builds(
        lambda constant, counts: Extent(constant, tuple(sorted(counts.items()))),
        st.integers(0, 3),
        st.dictionaries(st.integers(0, count - 1), st.integers(1, 3), max_size=3),
    )
    term = st.builds(lambda c, f: CostTerm(c, tuple(f)), st.integers(0, 50), st.lists(extents, max_size=3))
    return tuple(draw(st.lists(term, min_size=1, max_size=8)))


@st.composite
def stepped_costs(draw, count, sizes):
    """Staircases: costs that stay level between steps, as latencies do."""
    places = st.integers(0, count - 1)
    drawn = draw(st.lists(st.tuples(places, places, st.sampled_from([1, 4, 16]), st.integers(0, 5000)), max_size=6))
    parts = {}
    for first, second, step, coefficient in drawn:
        axis = SteppedAxis(Extent(2, ((first, 1),)), step)
        other = SteppedAxis(Extent(0, ((second, 3),)), 4)
        parts[(axis,) if first == second else (axis, other)] = coefficient
    constant = draw(st.integers(3000, 5000))
    return SteppedCost("flops", constant, parts, sizes, scale=1000)


@st.composite
def random_problems(draw):
    count = draw(st.integers(1, 6))
    chosen = tuple(draw(decisions(index)) for index in range(count))
    # Every decision costs something, so that "maximal" means something.
    singles = [CostTerm(1 + index, (Extent(0, ((index, 1),)),)) for index in range(count)]
    sizes = [decision.size for decision in chosen]
    flops = (
        draw(stepped_costs(count, sizes))
        if draw(st.booleans())
        else PolynomialCost("flops", [*singles, *draw(terms(count))], sizes)
    )
    params = PolynomialCost("params", singles, sizes)
    smallest = flops.cost([decision.smallest for decision in chosen])
    budget = Budget(flops=max(2, draw(st.integers(smallest, flops.dense)))) if flops.dense > 2 else None
    layers = (plain_layer(),) * count
    return PruningProblem(chosen, "filter", {"flops": flops, "params": params}, layers, budget)


@pytest.fixture(scope="session")
def problems():
    return random_problems()


@pytest.fixture(scope="session")
def staircases():
    return stepped_costs


@pytest.fixture(scope="session")
def random_terms():
    return terms


@pytest.fixture(scope="session")
def make_layer():
    return plain_layer


@pytest.fixture
def make_problem_of_two():
    """Two decisions of ten units, one at least; FLOPs 3a + b, params a + b."""

    def make(budget):
        a, b = (Extent(0, ((index, 1),)) for index in range(2))
        flops = PolynomialCost("flops", [CostTerm(3, (a,)), CostTerm(1, (b,))], (10, 10))
        params = PolynomialCost("params", [CostTerm(1, (a,)), CostTerm(1, (b,))], (10, 10))
        decisions = (Decision("a", 10), Decision("b", 10))
        return PruningProblem(decisions, "filter", {"flops": flops, "params": params}, (plain_layer(),) * 2, budget)

    return make
