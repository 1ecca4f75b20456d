"""Filter pruning of a three-convolution network, described by hand and built for real."""

from __future__ import annotations

import pytest
from torch import nn, zeros

from amc.costs import Budget
from amc.costs.counting import count_flops, count_params
from amc.errors import ConfigurationError, ModelError, UnknownNameError
from amc.problem import filter_problem
from amc.structure import ChannelGroup, CostTerm, Extent, ModelStructure

SIZES = (16, 12, 10)
SIDE = 8


def build(widths):
    """Conv 3x3, batch norm, conv 1x1, conv 3x3, pooling, linear to 10 classes."""
    a, b, c = widths
    return nn.Sequential(
        nn.Conv2d(3, a, 3, padding=1, bias=False),
        nn.BatchNorm2d(a),
        nn.Conv2d(a, b, 1),
        nn.Conv2d(b, c, 3, padding=1, bias=False),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(c, 10),
    )


def group(name, channels, **fields):
    return ChannelGroup(name, channels, (), (name, f"{name}.twin"), (), **fields)


@pytest.fixture(scope="module")
def structure(make_layer):
    a, b, c = (Extent(0, ((index, 1),)) for index in range(3))
    positions = SIDE * SIDE
    flops = (
        CostTerm(27 * positions, (a,)),
        CostTerm(2 * positions, (a,)),
        CostTerm(positions, (a, b)),
        CostTerm(9 * positions, (b, c)),
        CostTerm(positions, (c,)),
        CostTerm(10, (c,)),
    )
    params = (
        CostTerm(29, (a,)),
        CostTerm(1, (b, Extent(1, ((0, 1),)))),
        CostTerm(9, (b, c)),
        CostTerm(10, (Extent(1, ((2, 1),)),)),
    )
    layers = tuple(make_layer(name, writes=index) for index, name in enumerate(("stem", "body.0", "body.1")))
    layers = (*layers, make_layer("head", kind="linear"))
    groups = (group("stem", 16), group("body.0", 12), group("body.1", 10, residual=True))
    return ModelStructure(layers, groups, flops, params)


@pytest.mark.parametrize("residual", [False, True])
def test_predicted_costs_are_those_of_the_smaller_network(structure, residual):
    problem = filter_problem(structure, Budget(flops=0.5), residual=residual)
    for keep_ratios in ((0.1, 0.1, 0.1), (0.9, 0.2, 0.6), (0.3, 1.0, 0.5), (1.0, 1.0, 1.0)):
        widths = problem.project(keep_ratios[: len(problem.decisions)])
        network = build((*widths, 10)[:3])
        assert problem.cost(widths) == count_flops(network, zeros(1, 3, SIDE, SIDE)) <= problem.limit
        assert problem.cost(widths, "params") == count_params(network)


def test_residual_groups_stay_dense_unless_asked_for(structure):
    names = [decision.name for decision in filter_problem(structure, None).decisions]
    assert names == ["stem", "body.0"]
    problem = filter_problem(structure, None, residual=True)
    assert [decision.name for decision in problem.decisions] == ["stem", "body.0", "body.1"]
    assert [layer.name for layer in problem.layers] == ["stem", "body.0", "body.1"]
    assert problem.kind == "filter"


@pytest.mark.parametrize("pattern", ["stem", "st*", "stem.twin"])
def test_patterns_exclude_by_the_names_of_the_group_and_its_writers(structure, pattern):
    problem = filter_problem(structure, None, exclude=[pattern])
    assert [(decision.name, decision.group) for decision in problem.decisions] == [("body.0", 1)]
    assert problem.cost((12,)) == structure.dense_flops


def test_excluding_a_layer_that_is_no_decision_anyway_is_fine(structure):
    assert len(filter_problem(structure, None, exclude=["head"]).decisions) == 2


def test_bounds_are_pruning_ratios_by_pattern_and_the_first_match_counts(structure):
    bounds = {"body.*": (0.25, 0.5), "*": (0.0, 0.9)}
    stem, body = filter_problem(structure, None, bounds=bounds).decisions
    assert (stem.smallest, stem.largest) == (2, 16)
    assert (body.smallest, body.largest) == (6, 9)


def test_keep_ratios_bound_all_groups(structure):
    stem, body = filter_problem(structure, None, min_keep_ratio=0.2, max_keep_ratio=0.75).decisions
    assert (stem.smallest, stem.largest) == (4, 12)
    assert (body.smallest, body.largest) == (3, 9)


def test_rounding_leaves_narrow_groups_dense(structure):
    problem = filter_problem(structure, None, round_to=8, residual=True)
    assert [(d.name, [d.width(level) for level in range(d.levels)]) for d in problem.decisions] == [
        ("stem", [8, 16]),
        ("body.0", [8, 12]),
        ("body.1", [8, 10]),
    ]
    assert [d.name for d in filter_problem(structure, None, round_to=12, residual=True).decisions] == ["stem"]


def test_nothing_to_prune_is_an_error_that_shows_the_reasons(structure):
    groups = (group("stem", 16, reason="its channels are the network's output"), *structure.groups[1:])
    left = ModelStructure(structure.layers, groups, structure.flops_terms, structure.params_terms)
    with pytest.raises(ModelError, match=r"stem: its channels are the network's output.*exclude fewer"):
        filter_problem(left, None, exclude=["body.0"])


@pytest.mark.parametrize("options", [{"exclude": ["boddy.0"]}, {"bounds": {"boddy.0": (0.0, 0.5)}}])
def test_patterns_that_match_nothing_are_errors(structure, options):
    with pytest.raises(UnknownNameError, match=r"'boddy\.0'; did you mean 'body\.0'( or|\?)"):
        filter_problem(structure, None, **options)


@pytest.mark.parametrize(
    "options", [{"min_keep_ratio": 0.6, "max_keep_ratio": 0.5}, {"min_keep_ratio": -0.1}, {"bounds": {"*": (0.5, 1.2)}}]
)
def test_ratios_out_of_order_are_errors(structure, options):
    with pytest.raises(ConfigurationError, match="stem: the ratios to keep must satisfy"):
        filter_problem(structure, None, **options)


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("body.1", "writes a residual stream, which pruning.residual true prunes"),
        ("head", "no channels go by that name"),
    ],
)
def test_bounds_that_nothing_hears_are_errors(structure, pattern, reason):
    with pytest.raises(ConfigurationError, match=rf"bounds of '{pattern}' reach nothing that is pruned \(.*{reason}\)"):
        filter_problem(structure, None, bounds={"stem": (0.0, 0.5), pattern: (0.0, 0.5)})


def test_bounds_of_a_residual_stream_are_heard_where_it_is_pruned(structure):
    problem = filter_problem(structure, None, bounds={"body.1": (0.0, 0.5)}, residual=True)
    assert [decision.smallest for decision in problem.decisions if decision.name == "body.1"] == [5]
