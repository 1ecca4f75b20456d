"""Networks that lose whole residual blocks keep every contract."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from amc.costs import Budget
from amc.costs.metrics import METRICS
from amc.models import create_model
from amc.problem import filter_problem
from amc.structure import Allocation
from amc.structure.operator_watch import OperatorWatch
from amc.structure.residual_blocks import Dropped
from amc.tracing.trace import trace_structure
from amc.zoo import CONTRACTS, cuts_of, open_case

SMALL_VIT = {"img_size": 32, "patch_size": 8, "depth": 4, "embed_dim": 48, "num_heads": 3}
SMALL_CONVNEXT = {"depths": (2, 2, 2, 1), "dims": (16, 24, 32, 48)}
NETWORKS = {
    "resnet20": {"image_size": 16},
    "mobilenet_v2": {"image_size": 32},
    "timm:convnext_atto": {"image_size": 32, "options": SMALL_CONVNEXT},
    "timm:vit_tiny_patch16_224": {"image_size": 32, "options": SMALL_VIT},
}
LARGE = {"convnext_tiny": {"image_size": 32}, "vit_b_32": {"image_size": 64, "options": {"image_size": 64}}}
# Few channels cannot be brought within 1% of a budget, and the exporter takes seconds: it is tried on the digits.
QUICK = [name for name in CONTRACTS if name not in ("onnx", "budget")]


@pytest.fixture(scope="module", params=[*NETWORKS, *(pytest.param(name, marks=pytest.mark.slow) for name in LARGE)])
def case(request):
    """A network with decisions about its blocks, and half of its FLOPs as the budget."""
    if request.param.startswith("timm:"):
        pytest.importorskip("timm")
    settings = {**NETWORKS, **LARGE}[request.param]
    found = open_case(request.param, **settings)
    if request.param.startswith("timm:"):  # a file may not name options such as the depth
        found = replace(found, rebuild=lambda: create_model(request.param, seed=0, **settings["options"]).eval())
    structure = trace_structure(found.model, found.example, blocks=True)
    return replace(found, structure=structure, problem=filter_problem(structure, Budget(flops=0.5)))


@torch.no_grad()
def masked_outputs(case, gone):
    """Runs the dense network with the branches of some blocks times zero where they are added."""
    places = {block.addition: block.branch for block in gone}

    class Masking(OperatorWatch):
        def arguments(self, step, func, args):
            if step not in places:
                return args
            if func._schema.is_mutable and places[step] == 0:
                args[0].mul_(0)
                return args
            return tuple(arg * 0 if place == places[step] else arg for place, arg in enumerate(args))

    with Masking(lambda *_: None).watching():
        return case.model(case.example)


@pytest.mark.heavy
def test_every_contract_holds_where_blocks_are_dropped(case):
    (cut,) = cuts_of(case, rules=("random",))
    blocks = [case.structure.groups[index].name for index in case.structure.blocks]
    assert 0 < sum(not cut.allocation.widths[name] for name in blocks) < len(blocks)
    for name in QUICK:
        CONTRACTS[name](cut)


def test_a_network_without_blocks_is_the_dense_one_with_their_branches_times_zero(case):
    groups = [case.structure.groups[index] for index in case.structure.blocks]
    for gone in ([groups[0]], groups[1::2], groups):
        allocation = Allocation("filter", {group.name: 0 for group in gone})
        pruned = case.pruner.prune(allocation)
        with torch.no_grad():
            found, candidate = pruned(case.example), case.candidate.load(allocation)(case.example)
        expected = masked_outputs(case, [group.block for group in gone])
        for outputs in (found, candidate):
            torch.testing.assert_close(outputs, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
        assert sum(isinstance(module, Dropped) for module in pruned.modules()) == sum(
            len(group.block.modules) for group in gone
        )


def test_a_dropped_block_costs_nothing_and_neither_do_the_channels_in_it(case):
    problem = case.problem
    names = [decision.name for decision in problem.decisions]
    group = case.structure.groups[case.structure.blocks[-1]]
    inner = [
        decision.name
        for decision in problem.decisions
        if set(case.structure.groups[decision.group].writers) <= set(group.writers) and decision.name != group.name
    ]
    assert inner
    assert names.index(group.name) < min(map(names.index, inner))
    alone = problem.widths(Allocation("filter", {group.name: 0}))
    narrow = problem.widths(Allocation("filter", {group.name: 0, **dict.fromkeys(inner, 1)}))
    for metric in METRICS.names():
        assert problem.cost(alone, metric) == problem.cost(narrow, metric) < problem.dense_costs[metric]
        assert METRICS.get(metric).count(case.pruner.prune(problem.allocation(alone)), case.example) == problem.cost(
            alone, metric
        )
