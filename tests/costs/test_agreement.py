from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from amc.costs.agreement import check_dense_flops
from amc.errors import StructureError
from amc.tracing.trace import trace_structure

IMAGE = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def test_a_right_prediction_passes_and_a_wrong_one_names_what_is_counted():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 2, 1))
    structure = trace_structure(model, IMAGE)
    check_dense_flops(model, structure, IMAGE)
    wrong = replace(structure, flops_terms=structure.flops_terms * 2)
    with pytest.raises(StructureError, match=r"but fvcore counts 8,928 \(conv 8,352, batch_norm 576\); write"):
        check_dense_flops(model, wrong, IMAGE)


def test_a_network_that_fvcore_cannot_run_is_refused():
    class Unpooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 2, 1)

        def forward(self, x):
            pooled, places = functional.max_pool2d(self.first(x), 2, return_indices=True)
            return self.second(functional.max_unpool2d(pooled, places, 2))

    model = Unpooled()
    with pytest.raises(StructureError, match=r"must be countable, but fvcore fails on it: .*; write the operator"):
        check_dense_flops(model, trace_structure(model, IMAGE), IMAGE)
