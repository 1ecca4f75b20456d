"""What is computed and thrown away: an auxiliary head that evaluation mode runs too."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import amc
from amc.tracing.trace import trace_structure

IMAGE = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
HEAD = "part of an auxiliary head, which the output in evaluation mode does not depend on"


class TwoHeads(nn.Module):
    """Runs both heads in every mode, and hands out the second one's output in training mode only."""

    def __init__(self, use=None):
        super().__init__()
        self.use = use
        self.body, self.norm, self.neck = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.Conv2d(16, 16, 3)
        self.aux = nn.Sequential(nn.Conv2d(16, 12, 3), nn.BatchNorm2d(12), nn.ReLU(inplace=True), nn.Conv2d(12, 10, 1))
        self.head = nn.Linear(16, 10)
        self.register_buffer("seen", torch.zeros(1, 10, 6, 6))

    def forward(self, x):
        x = self.norm(self.body(x)).relu_()
        aux = self.aux(x)
        if self.use is not None:
            x = self.use(self, x, aux)
        y = self.head(self.neck(x).relu().mean((2, 3)))
        return (y, aux) if self.training else y


def sliced_in_place(model, x, aux):
    aux[:, 0] += 1
    return x


def looked_at(model, x, aux):
    return x + 1 if aux.sum().item() > 1e9 else x


def kept_as_attribute(model, x, aux):
    model.latest = aux
    return x


@pytest.mark.parametrize("use", [None, sliced_in_place, looked_at, kept_as_attribute])
def test_what_is_thrown_away_costs_nothing_as_in_fvcore(tools, use):
    model = TwoHeads(use)
    structure = trace_structure(model, IMAGE)
    small = tools.check_costs(model, structure, IMAGE)
    assert [layer.name for layer in structure.layers] == ["body", "neck", "head"]
    reasons = tools.reasons_of(structure)
    assert reasons["aux.0"] == HEAD
    assert set(reasons) == {"aux.0", "aux.3", "head"}
    assert small.body.out_channels == small.aux[0].in_channels < 16


def added_in_place(model, x, aux):
    x[:, :10].narrow(2, 0, 6).narrow(3, 0, 6).add_(aux)
    return x


def written_into_a_buffer(model, x, aux):
    model.seen.copy_(aux)
    return x


@pytest.mark.parametrize("use", [added_in_place, written_into_a_buffer])
def test_what_is_written_into_something_that_lasts_is_not_thrown_away(tools, use):
    model = TwoHeads(use)
    structure = trace_structure(model, IMAGE)
    tools.check_costs(model, structure, IMAGE)
    assert {"aux.0", "aux.3"} < {layer.name for layer in structure.layers}


def test_a_layer_that_is_used_elsewhere_too_keeps_what_that_costs(tools):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.head = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 2)

        def forward(self, x):
            self.second(x * 2)
            return self.head(self.second(self.first(x)))

    model, example = Twice(), torch.ones(1, 8)
    structure = trace_structure(model, example)
    tools.check_costs(model, structure, example)
    assert {layer.name: layer.flops for layer in structure.layers} == {"first": 64, "second": 64, "head": 16}


def test_what_is_computed_for_its_shape_counts_as_in_fvcore(tools):
    class Measured(TwoHeads):
        def forward(self, x):
            x = self.body(x)
            size = self.neck(x).shape[-1]
            return self.head(x.reshape(1, 16, -1)[:, :, :size].mean(2))

    model = Measured()
    structure = trace_structure(model, IMAGE)
    tools.check_costs(model, structure, IMAGE)
    assert "neck" in {layer.name for layer in structure.layers}


def test_a_thrown_away_head_may_ask_for_shapes(tools):
    def viewed(model, x, aux):
        aux.view(aux.size(0), -1)
        return x

    model = TwoHeads(viewed)
    structure = trace_structure(model, IMAGE)
    tools.check_costs(model, structure, IMAGE)
    assert [layer.name for layer in structure.layers] == ["body", "neck", "head"]


def test_a_network_with_such_a_head_is_compressed_with_it():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(60, 3, 8, 8, generator=generator)
    data = torch.utils.data.TensorDataset(images, torch.randint(0, 10, (60,), generator=generator))
    loaders = [torch.utils.data.DataLoader(data, batch_size=20) for _ in range(2)]
    torch.manual_seed(0)
    model = TwoHeads().eval()
    result = amc.compress(
        model,
        amc.OwnTask(lambda network: float(network(images).detach().std()), tuple(loaders)),
        amc.Budget(flops=0.6),
        episodes=3,
        agent="random",
        compare_with=(),
        finetune=lambda network: None,
        device="cpu",
        search=amc.SearchConfig(dtype="float32"),
    )
    small = result.model
    assert small.body.out_channels == small.aux[0].in_channels
    small.train()
    assert [tuple(output.shape) for output in small(images)] == [(60, 10), (60, 10, 6, 6)]
