"""Helpers to trace small networks and to check what a trace predicts against the cut network."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch

from amc.costs.counting import count_flops, count_params
from amc.runtime.call import call, tensors_in
from amc.structure.slicing import cut, widths_of
from amc.structure.substitution import substituted
from amc.tracing.trace import trace_structure
from amc.tracing.trial import agree, half_of, ignoring


def groups_of(structure):
    """Returns the groups by name."""
    return {group.name: group for group in structure.groups}


def reasons_of(structure):
    """Returns why groups are left alone, by name, prunable ones left out."""
    return {group.name: group.reason for group in structure.groups if group.reason}


def cut_half(model, structure, groups=None):
    """Returns a copy of a network cut at groups (all prunable ones if None), and the kept channels."""
    chosen = structure.prunable if groups is None else groups
    kept = {index: half_of(structure.groups[index].channels, index) for index in chosen}
    small = copy.deepcopy(model)
    cut(small, structure, kept)
    return small, kept


def check_costs(model, structure, example):
    """Cuts every prunable group and compares the predicted costs with what fvcore and numel count."""
    small, kept = cut_half(model, structure)
    widths = widths_of(structure, kept)
    assert sum(term.cost(widths) for term in structure.flops_terms) == count_flops(small, example)
    assert sum(term.cost(widths) for term in structure.params_terms) == count_params(small)
    assert structure.dense_flops == count_flops(model, example)
    assert structure.dense_params == count_params(model)
    return small


def outputs_of(model, example):
    """Returns all output tensors of a network in evaluation mode."""
    model.eval()
    with torch.no_grad():
        return tensors_in(call(model, example))


def kept_sets(structure):
    """Returns what may be kept of all prunable groups: half, one channel, all but one, and an irregular number."""
    sizes = {index: structure.groups[index].channels for index in structure.prunable}
    generator = torch.Generator().manual_seed(1)
    sets = [{index: half_of(size, index) for index, size in sizes.items()}]
    for count in (lambda _: 1, lambda size: size - 1, lambda size: max(1, 2 * size // 3)):
        order = {index: torch.randperm(size, generator=generator) for index, size in sizes.items()}
        sets.append({index: order[index][: max(1, count(size))].sort().values for index, size in sizes.items()})
    return sets


def check_values(model, structure, *examples):
    """Compares networks cut to several widths with the dense one that ignores the same channels, on several inputs."""
    assert structure.prunable
    for kept in kept_sets(structure):
        small = copy.deepcopy(model)
        cut(small, structure, kept)
        for example in examples:
            found = outputs_of(small, example)
            fits = []
            for roles in (("read",), ("read", "write", "follow")):
                with substituted(model, ignoring(model, structure, kept, roles), None):
                    fits.append(agree(found, outputs_of(model, example)))
            assert any(fits), (kept, example.shape)


def randomise(model, seed=0):
    """Gives every parameter and statistic values that matter, zero-initialised ones too."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            values = torch.randn(tensor.shape, generator=generator) * 0.3
            tensor.copy_(values.abs() + 0.5 if name.endswith("running_var") else values)
    return model


def traced(model, example):
    """Traces a network with random values and checks its predicted costs; returns it, its structure and the cut one."""
    randomise(model)
    structure = trace_structure(model, example)
    return structure, check_costs(model, structure, example)


@pytest.fixture(scope="session")
def tools():
    return SimpleNamespace(
        groups_of=groups_of,
        reasons_of=reasons_of,
        cut_half=cut_half,
        check_costs=check_costs,
        check_values=check_values,
        kept_sets=kept_sets,
        outputs_of=outputs_of,
        randomise=randomise,
        traced=traced,
    )
