"""The user's rules reach the problem that the agents solve."""

from __future__ import annotations

import torch

from amc.costs import Budget
from amc.models import create_model
from amc.pipeline.task import build_problem
from amc.pruning import PruningConfig
from amc.tracing.trace import trace_structure


def problem(**rules):
    structure = trace_structure(create_model("digits_resnet", seed=0), torch.zeros(1, 1, 8, 8))
    return build_problem(structure, Budget(flops=0.5), PruningConfig(**rules))


def test_bounds_by_pattern_limit_what_an_allocation_may_remove():
    bounded = problem(bounds={"layer1.*": (0, 0.25), "layer3.*": (0.5, 0.75)})
    for decision in bounded.decisions:
        removed = {1 - decision.largest / decision.size, 1 - decision.smallest / decision.size}
        if decision.name.startswith("layer1."):
            assert removed == {0.0, 0.25}
        elif decision.name.startswith("layer3."):
            assert removed == {0.5, 0.75}
    assert {decision.name.partition(".")[0] for decision in bounded.decisions} >= {"layer1", "layer3"}


def test_widths_are_multiples_of_round_to():
    rounded = problem(round_to=4)
    for wish in (0.2, 0.5, 0.9):
        widths = rounded.project([wish] * len(rounded.decisions))
        assert all(width % 4 == 0 for width in widths)


def test_excluded_layers_are_no_decisions():
    names = {decision.name for decision in problem(exclude=("layer2.*",)).decisions}
    assert not any(name.startswith("layer2.") for name in names)
    assert any(name.startswith("layer1.") for name in names)
