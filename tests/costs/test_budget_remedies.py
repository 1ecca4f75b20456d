"""A budget that cannot be met is refused with the rules that would meet it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from amc.costs import Budget
from amc.costs.metrics import in_words
from amc.errors import BudgetError
from amc.problem import filter_problem, weight_problem
from amc.tracing.trace import trace_structure


class Residual(nn.Module):
    """A stem and a head around one block: the stream takes most of the FLOPs."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 40, 3, padding=1), nn.Conv2d(40, 4, 1)
        self.inner, self.outer = nn.Conv2d(40, 20, 3, padding=1), nn.Conv2d(20, 40, 3, padding=1)

    def forward(self, x):
        x = self.stem(x)
        return self.head(x + self.outer(self.inner(x).relu()))


@pytest.fixture(scope="module")
def structure():
    return trace_structure(Residual(), torch.zeros(1, 3, 8, 8))


def flops(structure, **rules):
    """Returns the smallest share of the FLOPs under some rules."""
    problem = filter_problem(structure, None, **rules)
    return problem.cost(problem.min_widths, "flops") / structure.dense_flops


@pytest.mark.parametrize(
    ("between", "remedy"),
    [
        (({"residual": True}, {}), r"residual streams too \(pruning.residual true\)"),
        (
            ({"min_keep_ratio": 0.01, "residual": True}, {"residual": True}),
            r"min_keep_ratio 0.01 and residual streams too \(pruning.residual true\)",
        ),
    ],
)
def test_the_mildest_rule_that_reaches_it_is_named(structure, between, remedy):
    low, high = (flops(structure, **rules) for rules in between)
    assert low < high
    with pytest.raises(BudgetError, match=rf"the smallest feasible budget is .*{remedy} would reach it$"):
        filter_problem(structure, Budget(flops=(low + high) / 2))


def test_of_streams_that_are_pruned_already_less_is_to_be_kept(structure):
    low, high = (flops(structure, residual=True, min_keep_ratio=ratio) for ratio in (0.01, 0.1))
    with pytest.raises(BudgetError, match=r"raise the budget; pruning.min_keep_ratio 0.01 would reach it$"):
        filter_problem(structure, Budget(flops=(low + high) / 2), residual=True)


def test_what_nothing_reaches_is_said_to_be_so(structure):
    with pytest.raises(BudgetError, match="no other rules of pruning would reach it"):
        filter_problem(structure, Budget(flops=1e-6))


def test_weights_too(structure):
    with pytest.raises(BudgetError, match=r"pruning.min_keep_ratio 0 would reach it"):
        weight_problem(structure, Budget(params=0.02), min_keep_ratio=0.1)


def test_excluding_fewer_layers_is_advised_only_where_that_would_reach_it(structure):
    rules = {"residual": True, "min_keep_ratio": 0.01}
    low, high = (flops(structure, exclude=exclude, **rules) for exclude in ((), ["inner"]))
    budget = Budget(flops=(low + high) / 2)
    with pytest.raises(BudgetError, match=r"excluding no layer \(pruning.exclude\) would reach it$"):
        filter_problem(structure, budget, exclude=["inner"], **rules)
    with pytest.raises(BudgetError, match=r"raise the budget; no other rules of pruning would reach it$"):
        filter_problem(structure, Budget(flops=low / 100), **rules, exclude=["inner"])


FEW = {"min_keep_ratio": 0.01, "residual": True}
SAME_RATIOS = r"the same ratios for all layers \(no pruning.bounds\)"


@pytest.mark.parametrize(
    ("rules", "remedy"),
    [
        ({"bounds": {"*": (0, 0.2)}, **FEW}, SAME_RATIOS),
        ({"round_to": 20, **FEW}, "pruning.round_to 1"),
        ({"bounds": {"*": (0, 0.6)}, "round_to": 20, **FEW}, f"pruning.round_to 1 and {SAME_RATIOS}"),
    ],
)
def test_limits_on_layers_and_round_widths_are_named_where_they_stand_in_the_way(structure, rules, remedy):
    with pytest.raises(BudgetError, match=rf"raise the budget; .*{remedy} would reach it$"):
        filter_problem(structure, Budget(flops=0.1), **rules)


@pytest.mark.parametrize(
    ("rules", "remedy"),
    [
        ({"bounds": {"*": (0, 0.2)}}, SAME_RATIOS),
        ({"round_to": 200}, "pruning.round_to 1"),
        ({"pattern": "2of4"}, r"single weights \(pruning.pattern unstructured\)"),
        (
            {"pattern": "2of4", "exclude": ("inner",)},
            r"pruning.min_keep_ratio 0 and single weights .* and excluding no layer \(pruning.exclude\)",
        ),
    ],
)
def test_patterns_limits_and_round_counts_of_weights_are_named_too(structure, rules, remedy):
    with pytest.raises(BudgetError, match=rf"raise the budget; {remedy} would reach it$"):
        weight_problem(structure, Budget(params=0.05), **rules)


def test_costs_are_told_with_their_units():
    assert in_words("memory", 2048) == "2,048 bytes of activation memory"
    assert in_words("flops", 2048) == "2,048 FLOPs"
    assert in_words("latency", 2_500_000) == "2.5 ms"


@pytest.mark.parametrize(("bound", "asks"), [(2, True), (2 / 4000, False)])
def test_whole_numbers_alone_are_taken_for_percents(structure, bound, asks):
    assert structure.dense_params > 4000
    with pytest.raises(BudgetError) as caught:
        weight_problem(structure, Budget(params=bound))
    assert str(caught.value).startswith("did you mean params=0.02?") == asks
