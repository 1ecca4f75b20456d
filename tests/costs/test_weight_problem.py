from __future__ import annotations

import pytest

from amc.costs import Budget
from amc.errors import ModelError, UnknownNameError
from amc.problem import weight_problem
from amc.structure import CostTerm, ModelStructure


@pytest.fixture
def structure(make_layer):
    """A convolution of 288 weights used at 100 positions, a linear layer of 40 weights, 50 other parameters."""
    layers = (
        make_layer("conv", weight_shape=(8, 4, 3, 3), flops=28_800),
        make_layer("head", kind="linear", weight_shape=(5, 8), flops=40),
        make_layer("attention", kind="attention", weight_shape=(12, 4), flops=480, is_used_evenly=False),
    )
    return ModelStructure(layers, (), (CostTerm(28_800 + 40 + 480 + 700),), (CostTerm(288 + 40 + 50),))


def test_a_weight_costs_one_parameter_and_its_multiplications(structure):
    problem = weight_problem(structure, Budget(params=0.5))
    assert [(d.name, d.size, d.group) for d in problem.decisions] == [("conv", 288, 0), ("head", 40, 1)]
    assert problem.kind == "weight"
    assert problem.cost((100, 7)) == 100 + 7 + 50
    assert problem.cost((100, 7), "flops") == 100 * 100 + 7 + 480 + 700
    assert problem.cost((288, 40), "flops") == structure.dense_flops


def test_weights_of_buffers_cost_multiplications_and_no_parameters(structure, make_layer):
    fixed = make_layer("fixed", kind="linear", weight_shape=(30, 20), flops=1200, is_parameter=False)
    terms = (CostTerm(structure.dense_flops + 1200),)
    problem = weight_problem(ModelStructure((*structure.layers, fixed), (), terms, structure.params_terms), None)
    assert [decision.name for decision in problem.decisions] == ["conv", "head", "fixed"]
    assert problem.cost((100, 7, 600), "params") == problem.cost((100, 7, 5), "params") == 100 + 7 + 50
    assert problem.cost((100, 7, 5), "flops") == 100 * 100 + 7 + 480 + 700 + 5 * 2


def test_weights_that_no_file_holds_stay(structure, make_layer):
    lost = make_layer("lost", kind="linear", weight_shape=(30, 20), flops=600, is_parameter=False, is_saved=False)
    terms = (CostTerm(structure.dense_flops + 600),)
    problem = weight_problem(ModelStructure((*structure.layers, lost), (), terms, structure.params_terms), None)
    assert [decision.name for decision in problem.decisions] == ["conv", "head"]


def test_the_budget_is_spent_to_the_last_weight(structure):
    problem = weight_problem(structure, Budget(params=0.5))
    assert problem.cost(problem.project((0.4, 0.9))) == problem.limit == 189


def test_excluded_layers_stay_dense_and_bounds_hold(structure):
    problem = weight_problem(structure, None, exclude=["head"], bounds={"conv": (0.25, 0.75)})
    (conv,) = problem.decisions
    assert (conv.smallest, conv.largest) == (72, 216)
    assert problem.cost((100,), "params") == 100 + 40 + 50


def test_layers_too_large_for_a_float32_action_are_pruned_in_steps(make_layer):
    huge = 2**22 * 25  # VGG-16's first linear layer has about as many
    structure = ModelStructure(
        (make_layer("fc", kind="linear", weight_shape=(2**11, 2**11 * 25), flops=huge),),
        (),
        (CostTerm(huge),),
        (CostTerm(huge),),
    )
    problem = weight_problem(structure, Budget(params=0.1))
    (decision,) = problem.decisions
    assert decision.step == 25
    (width,) = problem.project((0.5,))
    assert 0 <= problem.limit - width < 25


def test_layers_that_share_a_name_stay_dense(structure, make_layer):
    layers = (*structure.layers, *(make_layer("lstm", kind="linear", weight_shape=(48, 16)) for _ in range(2)))
    problem = weight_problem(ModelStructure(layers, (), structure.flops_terms, structure.params_terms), None)
    assert [decision.name for decision in problem.decisions] == ["conv", "head"]
    assert problem.widths(problem.allocation((100, 7))) == (100, 7)


def test_errors(structure):
    with pytest.raises(ModelError, match="no layer whose weights may be pruned"):
        weight_problem(structure, None, exclude=["*"])
    with pytest.raises(UnknownNameError, match="unknown layer pattern 'cnv'; did you mean 'conv'"):
        weight_problem(structure, None, exclude=["cnv"])
